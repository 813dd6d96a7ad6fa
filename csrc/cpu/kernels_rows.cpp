#include <algorithm>

#include "rows.h"

namespace snn::cpu::SNN_CPU_ISA {

namespace {

// A copy of a surrogate's parameters: what no store to a row can change stays in registers.
template <class T>
struct Params {
  T values[kMaxSurrogateParams];

  explicit Params(const T* given) { std::copy_n(given, kMaxSurrogateParams, values); }
};

template <class T>
void gradient(SurrogateId id, const T* params, const T* h, const T* threshold, T* out, int count) {
  with_surrogate(id, [&, copy = Params<T>(params)](auto surrogate) {
    for (int l = 0; l < count; l += Vec<T>::kSize) {
      decltype(surrogate)::gradient(Vec<T>::load(h + l) - Vec<T>::load(threshold + l), copy.values)
          .store(out + l);
    }
  });
}

template <class T>
void primitive(SurrogateId id, const T* params, const T* h, const T* threshold, T* out, int count) {
  with_surrogate(id, [&, copy = Params<T>(params)](auto surrogate) {
    for (int l = 0; l < count; l += Vec<T>::kSize) {
      decltype(surrogate)::primitive(Vec<T>::load(h + l) - Vec<T>::load(threshold + l), copy.values)
          .store(out + l);
    }
  });
}

}  // namespace

void surrogate_gradient(SurrogateId id, const float* params, const float* h, const float* threshold,
                        float* out, int count) {
  gradient(id, params, h, threshold, out, count);
}
void surrogate_gradient(SurrogateId id, const double* params, const double* h,
                        const double* threshold, double* out, int count) {
  gradient(id, params, h, threshold, out, count);
}
void surrogate_primitive(SurrogateId id, const float* params, const float* h,
                         const float* threshold, float* out, int count) {
  primitive(id, params, h, threshold, out, count);
}
void surrogate_primitive(SurrogateId id, const double* params, const double* h,
                         const double* threshold, double* out, int count) {
  primitive(id, params, h, threshold, out, count);
}

}  // namespace snn::cpu::SNN_CPU_ISA
