#include "sift/core/version.h"

#include "sift/core/version_data.h"

namespace sift {

BuildInformation build_information() {
  return {SIFT_VERSION, SIFT_COMMIT, SIFT_COMPILER, SIFT_BUILD_TYPE};
}

}  // namespace sift
