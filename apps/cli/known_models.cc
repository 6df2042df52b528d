#include "apps/cli/known_models.h"

#include <nlohmann/json.hpp>

#include "sift/model_table.h"

namespace sift::cli {

const std::vector<KnownModel>& known_models() {
  static const std::vector<KnownModel> kModels = [] {
    const nlohmann::json table = nlohmann::json::parse(kModelTable);
    std::vector<KnownModel> list;
    for (const nlohmann::json& model : table.at("models")) {
      list.push_back(
          {model.at("name"), model.at("description"), model.at("file"), model.at("bytes")});
    }
    return list;
  }();
  return kModels;
}

const KnownModel* find_known_model(const std::string& name) {
  for (const KnownModel& model : known_models()) {
    if (model.name == name) return &model;
  }
  return nullptr;
}

}  // namespace sift::cli
