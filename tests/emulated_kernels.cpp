// The kernels of kernels.cu as a library; `order` is the order in which threads continue, see emulated_hopper.h.
#define EMULATED
#include "emulated_hopper.h"

#include "../src/lstmkit/ops/hopper/kernels.cu"

extern "C" {

#if BACKWARD
int emulate(int clusters, int order, const Half* d_output, const uint4* w_hh, const long long* lengths, const Half* hs,
            const float* cs, const Half* saved, float* dh, float* dc, Half* dgx, Half* dgh, int T, int B) {
    return run_clusters(clusters, order,
                        [=] { backward(d_output, w_hh, lengths, hs, cs, saved, dh, dc, dgx, dgh, T, B); });
}
#else
int emulate(int clusters, int order, const Half* gx, const uint4* w_hh, const Half* b_hh, const long long* lengths,
            Half* hs, float* cs, Half* saved, int T, int B) {
    return run_clusters(clusters, order, [=] { forward(gx, w_hh, b_hh, lengths, hs, cs, saved, T, B); });
}
#endif
}
