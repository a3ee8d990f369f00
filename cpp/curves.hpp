// Differences of smooth functions and of losses. expm1 and log1p carry the precision: near 0 as polynomials in
// registers, further out from the C library, one number at a time.
#pragma once

#include <math.h>

#include "lanes.hpp"

namespace fdfast {
namespace {

constexpr double kNear = 0.125;  // |d| up to which the polynomials hold
constexpr double kNearGelu = 1.0 / 1024;

// e^x - 1 for |x| <= 1/8: Taylor to degree 13, truncated below 1e-19 of the value.
template <typename T>
FDFAST_INLINE Vector<T> near_expm1(const Vector<T>& x) noexcept {
    Vector<T> sum = splat<T>(T(1.0 / 6227020800.0));
    each<0, 12>([&](auto i) __attribute__((always_inline)) {
        constexpr double kFactorial[12] = {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0,
                                           720.0,       120.0,      24.0,      6.0,      2.0,     1.0};
        sum = sum * x + T(1.0 / kFactorial[i]);
    });
    return sum * x;
}

// log(1 + u) = 2 atanh(u / (2 + u)) for |u| <= 1/4.
template <typename T>
FDFAST_INLINE Vector<T> near_log1p(const Vector<T>& u) noexcept {
    const Vector<T> w = u / (u + T{2}), v = w * w;
    Vector<T> sum = splat<T>(T(1.0 / 19.0));
    each<0, 9>([&](auto i) __attribute__((always_inline)) { sum = sum * v + T(1.0 / (17.0 - 2.0 * i)); });
    return T{2} * w * sum;
}

FDFAST_INLINE double logistic(double z) noexcept {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}
// Of the two forms the one whose exponential does not overflow.
FDFAST_INLINE double logistic_difference(double z, double d) noexcept {
    return d > 0 ? -expm1(-d) * logistic(-z) * logistic(z + d) : expm1(d) * logistic(z) * logistic(-(z + d));
}
FDFAST_INLINE double exponential_difference(double z, double d) noexcept {
    return d > 700 ? -exp(z + d) * expm1(-d) : exp(z) * expm1(d);
}
FDFAST_INLINE double ramp_difference(double z, double d) noexcept {
    return z > 0 ? (d > -z ? d : -z) : (z + d > 0 ? z + d : 0.0);
}
FDFAST_INLINE double softplus(double z) noexcept {
    return (z > 0 ? z : 0.0) + log1p(exp(-fabs(z)));
}
// Seen from the lower end, where the logarithm's argument grows: from the upper one it cancels.
FDFAST_INLINE double softplus_difference(double z, double d) noexcept {
    if (d > 700 || d < -700) return softplus(z + d) - softplus(z);
    return d > 0 ? log1p(logistic(z) * expm1(d)) : -log1p(logistic(z + d) * expm1(-d));
}

constexpr double kRoot = 0.707106769084930419921875;  // TensorFlow's gelu takes the root of a half in float32
constexpr double kTwoOverRootPi = 1.1283791670955126;

// erf(t + u) - erf(t): where e^(-t^2) varies little by eight Gauss-Legendre nodes on [t, t + u]; else the two are far
// enough apart to subtract, as complements where both are near 1 or both near -1.
FDFAST_INLINE double erf_difference(double t, double u) noexcept {
    const double a = t + u;
    if (fabs(u) > 0.5 || fabs(u * (a + t)) > 1) {
        if (t > 0 && a > 0) return erfc(t) - erfc(a);
        if (t < 0 && a < 0) return erfc(-a) - erfc(-t);
        return erf(a) - erf(t);
    }
    constexpr double kNode[4] = {0.18343464249564980494, 0.52553240991632898582, 0.79666647741362673959,
                                 0.96028985649753623168};
    constexpr double kWeight[4] = {0.36268378337836198297, 0.31370664587788728734, 0.22238103445337447054,
                                   0.10122853629037625915};
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
        const double p = t + u * (1 + kNode[i]) / 2, q = t + u * (1 - kNode[i]) / 2;
        sum += kWeight[i] / 2 * (exp(-p * p) + exp(-q * q));
    }
    return kTwoOverRootPi * u * sum;
}

FDFAST_INLINE double far_smooth(Smooth function, double z, double d, double alpha) noexcept {
    switch (function) {
        case Smooth::sigmoid:
            return logistic_difference(z, d);
        case Smooth::tanh:
            return 2 * logistic_difference(2 * z, 2 * d);
        case Smooth::softplus:
            return softplus_difference(z, d);
        case Smooth::softsign: {
            const double a = z + d, cross = a * z < 0 ? a * fabs(z) - z * fabs(a) : 0.0;
            return (d + cross) / ((1 + fabs(a)) * (1 + fabs(z)));
        }
        case Smooth::exponential:
            return exponential_difference(z, d);
        case Smooth::elu:
            return ramp_difference(z, d) + alpha * exponential_difference(z < 0 ? z : 0.0, -ramp_difference(-z, -d));
        case Smooth::silu:
            return z * logistic_difference(z, d) + d * logistic(z + d);
        case Smooth::gelu:
            return z * 0.5 * erf_difference(z * kRoot, d * kRoot) + d * 0.5 * erfc(-(z + d) * kRoot);
        case Smooth::root:
            return d / (sqrt(z + d) + sqrt(z));
        case Smooth::inverse_root: {
            const double a = sqrt(z + d), b = sqrt(z);
            return -d / (a + b) / a / b;
        }
        case Smooth::reciprocal:  // no product of two that are small, and no quotient of a large by a small one
            return fabs(d) > fabs(z) ? 1 / (z + d) - 1 / z : -d / z / (z + d);
        case Smooth::logarithm: {
            const double u = d / z;
            return u < 1e300 ? log1p(u) : log(z + d) - log(z);
        }
        case Smooth::erf:
            return erf_difference(z, d);
        case Smooth::count:
            break;
    }
    return 0;
}

// bell sum_n (-1)^n H_n(t) u^(n+1) / (n+1)!, H the Hermite polynomials: with bell = 2/sqrt(pi) e^(-t^2) it is
// erf(t + u) - erf(t).
template <typename T>
FDFAST_INLINE Vector<T> near_erf(const Vector<T>& t, const Vector<T>& u, const Vector<T>& bell) noexcept {
    Vector<T> before = Vector<T>{} + T{1}, hermite = t + t, power = u, sum = u;
    each<1, 8>([&](auto n) __attribute__((always_inline)) {
        power *= -u / T(n + 1);
        sum += hermite * power;
        const Vector<T> next = T{2} * t * hermite - T(2 * n) * before;
        before = hermite;
        hermite = next;
    });
    return choose<T>(bell > T{0}, bell * sum, Vector<T>{});  // far out the polynomials overflow
}

// q: planes of the function, see `prepare`; plane 0 is z itself.
template <typename T>
FDFAST_INLINE Vector<T> near_smooth(Smooth function, const T* q, std::int64_t plane, const Vector<T>& d) noexcept {
    const Vector<T> q0 = load<T>(q), q1 = load<T>(q + plane);
    switch (function) {
        case Smooth::sigmoid: {  // s (1 - s) E / (1 + s E), E = e^d - 1
            const Vector<T> e = near_expm1<T>(d);
            return load<T>(q + 2 * plane) * e / (q1 * e + T{1});
        }
        case Smooth::tanh: {
            const Vector<T> e = near_expm1<T>(d + d);
            return load<T>(q + 2 * plane) * e / (q1 * e + T{1});
        }
        case Smooth::softplus:
            return near_log1p<T>(q1 * near_expm1<T>(d));
        case Smooth::exponential:
            return q1 * near_expm1<T>(d);
        case Smooth::silu: {
            const Vector<T> e = near_expm1<T>(d), step = load<T>(q + 2 * plane) * e / (q1 * e + T{1});
            return q0 * step + d * (q1 + step);
        }
        case Smooth::gelu: {
            const Vector<T> step = near_erf<T>(q0 * T(kRoot), d * T(kRoot), load<T>(q + 2 * plane));
            return q0 * step + d * (q1 + step);
        }
        case Smooth::erf:
            return near_erf<T>(q0, d, q1);
        default:
            return d;
    }
}

FDFAST_INLINE bool has_near(Smooth function) noexcept {
    return function != Smooth::softsign && function != Smooth::elu &&
           (function < Smooth::root || function == Smooth::erf);
}

template <typename T>
FDFAST_INLINE bool within(const Vector<T>& d, T limit) noexcept {
    return !any<T>((d > limit) | (d < -limit));
}

// One register of a smooth function.
template <typename T>
FDFAST_INLINE Vector<T> smooth(const Node<T>& node, const T* q, std::int64_t plane, const Vector<T>& d) noexcept {
    const bool bell = node.function == Smooth::gelu || node.function == Smooth::erf;
    const T limit = T(bell ? kNearGelu : node.function == Smooth::tanh ? kNear / 2 : kNear);
    if (has_near(node.function) && within<T>(d, limit)) return near_smooth<T>(node.function, q, plane, d);
    Vector<T> out{};
    for (int i = 0; i < kLanes<T>; ++i) {
        if (d[i] != T{0}) out[i] = static_cast<T>(far_smooth(node.function, q[i], d[i], node.alpha));
    }
    return out;
}

// e[k] = expm1(u[k]) for `count` numbers, a whole number of registers.
FDFAST_INLINE void expm1_of(const double* u, std::int64_t count, double* e) noexcept {
    for (std::int64_t k = 0; k < count; k += kLanes<double>) {
        const Vector<double> x = load<double>(u + k);
        if (within<double>(x, kNear)) {
            store<double>(e + k, near_expm1<double>(x));
        } else {
            for (int i = 0; i < kLanes<double>; ++i) e[k + i] = expm1(u[k + i]);
        }
    }
}

FDFAST_INLINE double sum_of(const double* a, const double* b, std::int64_t count) noexcept {
    Vector<double> sum{};
    for (std::int64_t k = 0; k < count; k += kLanes<double>) sum += load<double>(a + k) * load<double>(b + k);
    double all = 0;
    for (int i = 0; i < kLanes<double>; ++i) all += sum[i];
    return all;
}

// Whether sum_k p_k expm1(d_k) is so near -1 that it cancels against 1, or has overflowed: a distribution turned over.
FDFAST_INLINE bool turned(double sum) noexcept {
    return !(sum > -0.5 && sum < 1e300);
}

FDFAST_INLINE double highest_of(const double* d, std::int64_t count) noexcept {
    double top = d[0];
    for (std::int64_t k = 1; k < count; ++k) top = d[k] > top ? d[k] : top;
    return top;
}

// log sum_k p_k e^d_k
FDFAST_INLINE double log_sum(const double* p, const double* d, std::int64_t count) noexcept {
    const double top = highest_of(d, count);
    double sum = 0;
    for (std::int64_t k = 0; k < count; ++k) sum += p[k] * exp(d[k] - top);
    return top + log(sum);
}

// sum_j y_j log1p(sum_{k != j} p_k expm1(d_k - d_j)); with d_j outside of the logarithm it cancels where p_j is near 1.
// d, u, e: `room` doubles each, zero beyond `count`; p and y as well.
FDFAST_INLINE double cross_entropy(const double* p, const double* y, const double* d, std::int64_t count,
                                   std::int64_t room, double* u, double* e) noexcept {
    double loss = 0;
    for (std::int64_t j = 0; j < count; ++j) {
        if (y[j] == 0) continue;
        for (std::int64_t k = 0; k < room; ++k) u[k] = d[k] - d[j];
        expm1_of(u, room, e);  // e[j] is 0, and p is 0 beyond the last
        const double grown = sum_of(p, e, room);
        loss += y[j] * (turned(grown) ? log_sum(p, u, count) : log1p(grown));
    }
    return loss;
}

}  // namespace
}  // namespace fdfast
