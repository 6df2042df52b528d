// The method's states as bytes of tensors: how they are laid out, and the step that takes them.
// siftattention/method.py describes them.

#include "method_states.h"

#include <torch/library.h>

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "sift/kernels/cuda/method_state.h"
#include "tensor_arguments.h"

namespace siftattention {
namespace {

using sift::cuda::GroupMethodState;
using sift::cuda::HeadMethodState;

// States are zeroed, copied and moved between devices as bytes.
static_assert(std::is_trivially_copyable_v<HeadMethodState>);
static_assert(std::is_trivially_copyable_v<GroupMethodState>);
static_assert(std::is_standard_layout_v<HeadMethodState>);
static_assert(std::is_standard_layout_v<GroupMethodState>);
static_assert(sizeof(HeadMethodState) % sizeof(double) == 0);
static_assert(sizeof(GroupMethodState) % sizeof(double) == 0);

/// A number in a state.
struct Field {
  const char* name;
  const char* type;  ///< of PyTorch
  std::size_t offset;
};

template <class V>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<V, double>) return "float64";
  if constexpr (std::is_same_v<V, std::int64_t>) return "int64";
  if constexpr (std::is_same_v<V, bool>) return "bool";
}

#define FIELD(State, member) \
  Field { #member, type_name<decltype(State().member)>(), offsetof(State, member) }

const std::vector<Field>& head_fields() {
  static const std::vector<Field> fields = {
      FIELD(HeadMethodState, head.fit.count),
      FIELD(HeadMethodState, head.fit.sum_x),
      FIELD(HeadMethodState, head.fit.sum_y),
      FIELD(HeadMethodState, head.fit.sum_xx),
      FIELD(HeadMethodState, head.fit.sum_xy),
      FIELD(HeadMethodState, head.fit.sum_yy),
      FIELD(HeadMethodState, head.fit.first_x),
      FIELD(HeadMethodState, head.fit.first_y),
      FIELD(HeadMethodState, head.fit.refused),
      FIELD(HeadMethodState, head.law.ln_alpha),
      FIELD(HeadMethodState, head.law.beta),
      FIELD(HeadMethodState, head.law.degenerate),
      FIELD(HeadMethodState, head.law.ill_determined),
      FIELD(HeadMethodState, head.correction),
      FIELD(HeadMethodState, head.fitted),
      FIELD(HeadMethodState, tally.rows),
      FIELD(HeadMethodState, tally.rows_after_warmup),
      FIELD(HeadMethodState, tally.pruned),
      FIELD(HeadMethodState, tally.pruned_after_warmup),
      FIELD(HeadMethodState, tally.kept_mass_after_warmup),
      FIELD(HeadMethodState, tally.empty_rows),
  };
  return fields;
}

const std::vector<Field>& group_fields() {
  static const std::vector<Field> fields = {
      FIELD(GroupMethodState, tally.sparse_rows),
      FIELD(GroupMethodState, tally.dense_rows),
      FIELD(GroupMethodState, tally.rows_after_warmup),
      FIELD(GroupMethodState, tally.union_after_warmup),
      FIELD(GroupMethodState, tally.candidates_after_warmup),
      FIELD(GroupMethodState, tally.value_rows_read),
      FIELD(GroupMethodState, tally.key_rows_read),
      FIELD(GroupMethodState, tally.shadow_rows_read),
      FIELD(GroupMethodState, tally.value_rows_dense),
  };
  return fields;
}

#undef FIELD

using Layout = std::tuple<std::int64_t, std::vector<std::string>, std::vector<std::string>,
                          std::vector<std::int64_t>>;

Layout layout_of(std::size_t bytes, const std::vector<Field>& fields) {
  Layout layout;
  std::get<0>(layout) = static_cast<std::int64_t>(bytes);
  for (const Field& field : fields) {
    std::get<1>(layout).emplace_back(field.name);
    std::get<2>(layout).emplace_back(field.type);
    std::get<3>(layout).push_back(static_cast<std::int64_t>(field.offset));
  }
  return layout;
}

Layout method_state_layout(std::string_view of) {
  if (of == "head") return layout_of(sizeof(HeadMethodState), head_fields());
  TORCH_CHECK_VALUE(of == "group", "of is '", of, "', expected 'head' or 'group'");
  return layout_of(sizeof(GroupMethodState), group_fields());
}

sift::FitKind parse_fit(std::string_view fit) {
  if (fit == "ols") return sift::FitKind::ols;
  TORCH_CHECK_VALUE(fit == "ridge", "fit is '", fit, "', expected 'ols' or 'ridge'");
  return sift::FitKind::ridge;
}

sift::AdaptTarget parse_adapt_target(std::string_view target) {
  if (target == "head") return sift::AdaptTarget::head;
  TORCH_CHECK_VALUE(target == "group", "adapt_target is '", target,
                    "', expected 'head' or 'group'");
  return sift::AdaptTarget::group;
}

/// The states of one kind, of which there are `states` for each slot.
template <class State>
State* states_of(const Tensor& tensor, const char* name, at::Device device, std::int64_t slots,
                 std::int64_t states) {
  check_array(tensor, name, device, at::kByte,
              {slots, states, static_cast<std::int64_t>(sizeof(State))});
  check_alignment(tensor, name, alignof(State));
  return static_cast<State*>(tensor.data_ptr());
}

void check_absent(const MethodTensors& t) {
  const auto absent = [](const std::optional<Tensor>& tensor, const char* name) {
    TORCH_CHECK_VALUE(!tensor.has_value(), name, " is given without the method's states");
  };
  absent(t.group_states, "group_states");
  absent(t.generated, "generated");
  absent(t.slots, "slots");
  absent(t.taus, "taus");
  absent(t.warmups, "warmups");
  absent(t.ln_thetas, "ln_thetas");
}

}  // namespace

sift::MethodOptions method_options(double tau, std::string_view fit, double adapt,
                                   std::string_view adapt_target, std::int64_t warmup,
                                   std::int64_t dense_rows) {
  TORCH_CHECK_VALUE(tau > 0 && tau < 1, "tau is ", tau, ", expected more than 0 and less than 1");
  TORCH_CHECK_VALUE(adapt >= 0 && adapt <= 1, "adapt is ", adapt, ", expected 0 to 1");
  sift::MethodOptions options;
  options.tau = tau;
  options.fit = parse_fit(fit);
  options.adapt = adapt;
  options.adapt_target = parse_adapt_target(adapt_target);
  options.decode_records = whole(warmup, "warmup");
  options.dense_rows = whole(dense_rows, "dense_rows");
  return options;
}

sift::cuda::MethodStep method_step(const MethodTensors& t, std::int64_t heads,
                                   std::int64_t kv_heads, const sift::MethodOptions& options) {
  sift::cuda::MethodStep step;
  if (!t.head_states.has_value()) {
    check_absent(t);
    return step;
  }
  const at::Device device = t.lengths.device();
  const std::int64_t batch = t.lengths.size(0);
  TORCH_CHECK_VALUE(t.group_states.has_value(), "there are head_states without group_states");
  TORCH_CHECK_VALUE(t.generated.has_value(),
                    "generated is None, but the method needs to know which row each request is at");
  const std::int64_t slots = t.head_states->dim() > 0 ? t.head_states->size(0) : 0;
  TORCH_CHECK_VALUE(t.slots.has_value() || slots >= batch, "the method has states in ", slots,
                    " slots, expected at least ", batch, ", one for each request");
  step.options = options;
  step.heads = whole(heads, "the number of query heads");
  step.kv_heads = whole(kv_heads, "the number of KV heads");
  step.head_states =
      states_of<HeadMethodState>(*t.head_states, "head_states", device, slots, heads);
  step.group_states =
      states_of<GroupMethodState>(*t.group_states, "group_states", device, slots, kv_heads);
  step.visible = t.lengths.data_ptr<std::int32_t>();
  step.generated =
      optional_array<std::int32_t>(t.generated, "generated", device, at::kInt, {batch});
  step.slots = optional_array<std::int32_t>(t.slots, "slots", device, at::kInt, {batch});
  step.taus = optional_array<double>(t.taus, "taus", device, at::kDouble, {batch});
  step.decode_records =
      optional_array<std::int32_t>(t.warmups, "warmups", device, at::kInt, {batch});
  step.modes = reinterpret_cast<const sift::RowMode*>(
      optional_array<std::uint8_t>(t.modes, "modes", device, at::kByte, {batch}));
  step.ln_thetas =
      optional_array<double>(t.ln_thetas, "ln_thetas", device, at::kDouble, {batch, heads});
  return step;
}

}  // namespace siftattention

TORCH_LIBRARY_FRAGMENT(siftattention, library) {
  library.def("method_state_layout(str of) -> (int, str[], str[], int[])",
              &siftattention::method_state_layout);
}
