"""C source from a Program: kernels chosen for each layer, weights, one arena, a small public interface."""
