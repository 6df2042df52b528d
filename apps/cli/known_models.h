#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sift::cli {

/// A model that `sift pull` gets (tools/models.json).
struct KnownModel {
  std::string name;
  std::string description;
  std::string file;  ///< its name in models_folder()
  std::int64_t bytes = 0;
};

const std::vector<KnownModel>& known_models();

/// The model of that name, or null.
const KnownModel* find_known_model(const std::string& name);

}  // namespace sift::cli
