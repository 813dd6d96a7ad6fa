#include <algorithm>

#include "rows.h"

namespace snn::cpu::SNN_CPU_ISA {

template <class T>
void surrogate_gradient(SurrogateId id, const T* params, const T* h, const T* threshold, T* out,
                        int count) {
  T copy[kMaxSurrogateParams];  // what no store to a row can change stays in registers
  std::copy_n(params, kMaxSurrogateParams, copy);
  with_surrogate(id, [&, copy](auto surrogate) {
    for (int l = 0; l < count; l += Vec<T>::kSize) {
      decltype(surrogate)::gradient(Vec<T>::load(h + l) - Vec<T>::load(threshold + l), copy)
          .store(out + l);
    }
  });
}

template <class T>
Vec<T> surrogate_primitive(SurrogateId id, const T* params, Vec<T> u) {
  return with_surrogate(id,
                        [&](auto surrogate) { return decltype(surrogate)::primitive(u, params); });
}

template void surrogate_gradient(SurrogateId, const float*, const float*, const float*, float*,
                                 int);
template void surrogate_gradient(SurrogateId, const double*, const double*, const double*, double*,
                                 int);
template Vec<float> surrogate_primitive(SurrogateId, const float*, Vec<float>);
template Vec<double> surrogate_primitive(SurrogateId, const double*, Vec<double>);

}  // namespace snn::cpu::SNN_CPU_ISA
