#include <algorithm>

#include "rows.h"

namespace snn::cpu {

template <SurrogatePart kPart, class T>
void surrogate_row(SurrogateId id, const T* params, const T* h, const T* threshold, T* out,
                   int count) {
  T copy[kMaxSurrogateParams];  // what no store to a row can change stays in registers
  std::copy_n(params, kMaxSurrogateParams, copy);
  with_surrogate(id, [&, copy](auto surrogate) {
    using Surrogate = decltype(surrogate);
    for (int l = 0; l < count; l += Vec<T>::kSize) {
      const Vec<T> u = Vec<T>::load(h + l) - Vec<T>::load(threshold + l);
      if constexpr (kPart == SurrogatePart::kGradient) {
        Surrogate::gradient(u, copy).store(out + l);
      } else {
        Surrogate::primitive(u, copy).store(out + l);
      }
    }
  });
}

#define SNN_ROWS(kPart, T)                                                                         \
  template void surrogate_row<SurrogatePart::kPart>(SurrogateId, const T*, const T*, const T*, T*, \
                                                    int);
SNN_ROWS(kGradient, float)
SNN_ROWS(kGradient, double)
SNN_ROWS(kPrimitive, float)
SNN_ROWS(kPrimitive, double)

}  // namespace snn::cpu
