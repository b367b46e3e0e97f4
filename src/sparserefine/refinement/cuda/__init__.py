"""The extractor on NVIDIA GPUs: the same network as fused kernels, captured as CUDA graphs.

The one door is `Runner`, which `refinement/runner.py` finds: it runs an extractor as a captured
graph where that is possible and worth it, and as it is everywhere else.
"""

from sparserefine.refinement.cuda.graph_cache import GraphCache as Runner

__all__ = ["Runner"]
