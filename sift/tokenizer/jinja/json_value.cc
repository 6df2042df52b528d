#include "sift/tokenizer/jinja/json_value.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "sift/tokenizer/jinja/context.h"

namespace sift::jinja {
namespace {

/// Builds values as the parser meets them, so that no depth of nesting can exhaust the stack.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(std::string_view what) : what_(what) {}

  bool null() override { return add(None{}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(std::int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > INT64_MAX)
      fail(fmt::format("{} holds the integer {}, beyond 64 bits", what_, value));
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t&) override { return add(double{value}); }
  bool string(string_t& value) override { return add(Text(std::move(value), true)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool key(string_t& name) override {
    Value value(Text(std::move(name), true));
    if (open_.back().dictionary.find(value) != nullptr) {
      fail(fmt::format("{} has the key '{}' twice in an object", what_, value.text().bytes()));
    }
    open_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    Value made = make_dictionary(std::move(open_.back().dictionary));
    open_.pop_back();
    return add(std::move(made));
  }
  bool end_array() override {
    Value made = make_list(std::move(open_.back().items));
    open_.pop_back();
    return add(std::move(made));
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail(fmt::format("{} is not JSON from byte {} on", what_, position));
  }

  Value take() { return std::move(result_); }

 private:
  /// A list or dictionary whose end has not come yet.
  struct Open {
    bool is_dictionary;
    Dictionary dictionary;
    std::vector<Value> items;
    Value key;
  };

  bool open(bool is_dictionary) {
    if (open_.size() >= static_cast<std::size_t>(kMaxExtent.depth)) {
      fail(fmt::format("{} nests more than {} deep", what_, kMaxExtent.depth));
    }
    open_.push_back({is_dictionary, {}, {}, {}});
    return true;
  }

  bool add(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_dictionary) {
      open_.back().dictionary.set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::string_view what_;
  std::vector<Open> open_;
  Value result_;
};

}  // namespace

Value value_from_json(std::string_view what, std::string_view json) {
  ValueBuilder builder(what);
  nlohmann::json::sax_parse(json, &builder);
  return builder.take();
}

}  // namespace sift::jinja
