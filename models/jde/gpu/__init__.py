"""The network on a GPU at full speed: kernels, static buffers, selection, runner."""
