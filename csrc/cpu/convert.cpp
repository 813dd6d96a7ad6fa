#include "elements.h"
#include "rows.h"

namespace snn::cpu {

namespace {

template <class Format>
void widen(const void* elements, float* row, int count) {
  const auto* from = static_cast<const std::uint16_t*>(elements);
  Halves h{};
  int l = 0;
  for (; l + Floats::kSize <= count; l += Floats::kSize) {
    std::memcpy(&h, from + l, sizeof h);
    Format::widen(h).store(row + l);
  }
  if (l == count) return;
  std::memcpy(&h, from + l, (count - l) * sizeof(std::uint16_t));
  Format::widen(h).store(row + l);
}

template <class Format>
void narrow(const float* row, void* elements, int count) {
  auto* to = static_cast<std::uint16_t*>(elements);
  int l = 0;
  for (; l + Floats::kSize <= count; l += Floats::kSize) {
    const Halves h = Format::narrow(Floats::load(row + l));
    std::memcpy(to + l, &h, sizeof h);
  }
  if (l == count) return;
  const Halves h = Format::narrow(Floats::load(row + l));
  std::memcpy(to + l, &h, (count - l) * sizeof(std::uint16_t));
}

}  // namespace

void convert_row(Element e, const void* elements, float* row, int count) {
  if (e == Element::kFloat16) return widen<Float16>(elements, row, count);
  if (e == Element::kBFloat16) return widen<BFloat16>(elements, row, count);
  std::memcpy(row, elements, count * sizeof(float));
}
void convert_row(Element, const void* elements, double* row, int count) {
  std::memcpy(row, elements, count * sizeof(double));
}
void convert_row(Element e, const float* row, void* elements, int count) {
  if (e == Element::kFloat16) return narrow<Float16>(row, elements, count);
  if (e == Element::kBFloat16) return narrow<BFloat16>(row, elements, count);
  std::memcpy(elements, row, count * sizeof(float));
}
void convert_row(Element, const double* row, void* elements, int count) {
  std::memcpy(elements, row, count * sizeof(double));
}

}  // namespace snn::cpu
