# Sourced by the other scripts: $python is a Python with torch, snnkernels and some of its extras.
#
# VENV      the virtual environment to use, or to make   (default: the active one, else .venv)
# PYTHON    the Python to make it with                     (default: python3)
# TORCH     the torch to install in it                     (default: torch, the newest)

cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-${VIRTUAL_ENV:-.venv}}
python=$venv/bin/python
if [ ! -x "$python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
# A torch that is there already stays; naming one together with the rest keeps pip from replacing it.
torch=$("$python" -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
  2>/dev/null || echo "${TORCH:-torch}")
"$python" -m pip install --quiet --disable-pip-version-check "$torch" -e ".[${extras:-test}]"
