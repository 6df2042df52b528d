#include "sift/sifting/power_law.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sift {

double LogLogFit::r_squared() const {
  if (count == 0) return std::numeric_limits<double>::quiet_NaN();
  const fitting::CentredSums sums = fitting::centre(*this);
  if (!fitting::has_slope(*this, sums)) return std::numeric_limits<double>::quiet_NaN();
  return std::min(sums.sxy * sums.sxy / (sums.sxx * sums.syy), 1.0);
}

}  // namespace sift
