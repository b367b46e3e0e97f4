// Compiled once for each instruction set, see kernels.h.
#include "kernels.h"

#include "direct.h"
#include "pack.h"
#include "scores.h"
#include "weight_gradient.h"
#include "winograd.h"

#define SR_NAME_(a) #a
#define SR_NAME(a) SR_NAME_(a)
#define SR_TABLE_(isa) kernels_##isa
#define SR_TABLE(isa) SR_TABLE_(isa)

namespace sparserefine {

const Kernels SR_TABLE(SR_ISA) = {
    SR_NAME(SR_ISA),
    SR_ISA::packed_floats,
    SR_ISA::pack_direct,
    SR_ISA::pack_winograd<2>,
    SR_ISA::pack_winograd<4>,
    SR_ISA::direct,
    SR_ISA::winograd<2>,
    SR_ISA::winograd<4>,
    SR_ISA::direct_weight_gradient,
    SR_ISA::winograd_weight_gradient<2>,
    SR_ISA::winograd_weight_gradient<4>,
    SR_ISA::score_cells,
    SR_ISA::sample_scores,
    SR_ISA::upsample_labels,
    SR_ISA::fuse_rows,
};

}  // namespace sparserefine
