"""The memory of a step, from shapes alone: live tensors, what kernels take for themselves, what allocators round."""
