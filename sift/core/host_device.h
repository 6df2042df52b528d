#pragma once

/// Marks a function that is compiled for the host and, where a CUDA compiler reads it, for the
/// device too, so that both run the same formula. Such a function calls only marked functions and
/// those of <cmath>.
#ifdef __CUDACC__
#define SIFT_HOST_DEVICE __host__ __device__
#else
#define SIFT_HOST_DEVICE
#endif
