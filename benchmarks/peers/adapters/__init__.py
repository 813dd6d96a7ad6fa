"""One file per library: ``PEERS``, what it offers, and ``load``, which makes it ready to run.

``load`` runs in the peer's own environment and imports the library; the rest of the file must do
without it.
"""
