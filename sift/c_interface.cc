// The C interface (sift.h) over Engine and Session. No exception passes it.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "sift/core/error.h"
#include "sift/core/threads.h"
#include "sift/core/version.h"
#include "sift/engine/engine.h"
#include "sift/sift.h"
#include "sift/tokenizer/tokenizer.h"

// NOLINTBEGIN(readability-identifier-naming): the handles that sift.h names
struct sift_engine {
  explicit sift_engine(const sift::EngineOptions& options) : engine(options) {}
  sift::Engine engine;
};

struct sift_session {
  std::unique_ptr<sift::Session> session;
  std::string notice;
};
// NOLINTEND(readability-identifier-naming)

namespace {

using sift::Error;
using sift::ErrorKind;

thread_local std::string last_error;

sift_status remember(sift_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

/// Runs `body`; exceptions become a status and a message.
template <class Body>
sift_status guarded(const Body& body) noexcept {
  try {
    body();
    return SIFT_OK;
  } catch (const Error& error) {
    return remember(static_cast<sift_status>(error.kind()), error.what());
  } catch (const std::bad_alloc&) {
    return remember(SIFT_INPUT_OUTPUT, "out of memory");
  } catch (const std::exception& error) {
    return remember(SIFT_INPUT_OUTPUT, error.what());
  } catch (...) {
    return remember(SIFT_INPUT_OUTPUT, "an exception of an unknown type");
  }
}

void require(const void* pointer, std::string_view what) {
  if (pointer == nullptr) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} is null", what));
  }
}

/// Copies as much of a caller's struct as caller and library both know; the rest keeps its default.
template <class Struct>
Struct read_struct(const Struct* given, const Struct& defaults, std::string_view what) {
  Struct options = defaults;
  if (given == nullptr) return options;
  if (given->size < sizeof(given->size) || given->size > 65536) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("size of {} is {}: set it with the struct's init function", what, given->size));
  }
  std::memcpy(&options, given, std::min(given->size, sizeof(Struct)));
  return options;
}

/// Writes as much of `value` as the caller's struct of `size` bytes has room for.
template <class Struct>
void write_struct(Struct* target, std::size_t size, Struct value, std::string_view what) {
  require(target, what);
  if (size < sizeof(value.size)) {
    throw Error(ErrorKind::invalid_argument, fmt::format("size of {} is {}", what, size));
  }
  value.size = size;
  std::memcpy(target, &value, std::min(size, sizeof(Struct)));
}

template <class T, std::size_t count>
T choose(std::string_view what, const char* word,
         const std::array<std::pair<std::string_view, T>, count>& choices) {
  require(word, what);
  std::string known;
  for (const auto& [name, value] : choices) {
    if (name == word) return value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} is '{}', expected one of {}", what, word, known));
}

constexpr std::array<std::pair<std::string_view, sift::BackendKind>, 2> kBackends = {
    {{"cpu", sift::BackendKind::cpu}, {"reference", sift::BackendKind::reference}}};
constexpr std::array<std::pair<std::string_view, sift::Compute>, 3> kComputes = {
    {{"f32", sift::Compute::f32}, {"bf16", sift::Compute::bf16}, {"q8", sift::Compute::q8}}};
constexpr std::array<std::pair<std::string_view, sift::DType>, 4> kCacheTypes = {
    {{"f16", sift::DType::f16},
     {"bf16", sift::DType::bf16},
     {"f32", sift::DType::f32},
     {"q8_0", sift::DType::q8_0}}};

sift_engine_options default_engine_options() {
  return {sizeof(sift_engine_options), "cpu", "q8", "f16", 0, 0};
}

sift_generation_options default_generation_options() {
  const sift::GenerationRequest request;
  const sift::SamplingOptions& sampling = request.sampling;
  return {sizeof(sift_generation_options),
          request.max_tokens,
          sampling.temperature,
          sampling.top_k,
          sampling.top_p,
          sampling.min_p,
          sampling.repetition_penalty,
          sampling.seed,
          nullptr,
          0,
          0};
}

sift::EngineOptions engine_options(const char* path, const sift_engine_options& given) {
  if (given.threads < 0 || given.threads > sift::kMaximumThreads) {
    throw Error(ErrorKind::invalid_argument, fmt::format("threads is {}, expected 0 to {}",
                                                         given.threads, sift::kMaximumThreads));
  }
  sift::EngineOptions options;
  options.model_path = path;
  options.backend = choose("backend", given.backend, kBackends);
  options.compute = choose("compute", given.compute, kComputes);
  options.cache_type = choose("cache_type", given.cache_type, kCacheTypes);
  options.threads = given.threads == 0 ? sift::default_thread_count() : given.threads;
  options.context = given.context;
  return options;
}

sift::GenerationRequest generation_request(const sift_generation_options& given) {
  sift::GenerationRequest request;
  request.max_tokens = given.max_tokens;
  request.sampling.temperature = given.temperature;
  request.sampling.top_k = given.top_k;
  request.sampling.top_p = given.top_p;
  request.sampling.min_p = given.min_p;
  request.sampling.repetition_penalty = given.repetition_penalty;
  request.sampling.seed = given.seed;
  request.ignore_end_of_text = given.ignore_end_of_text != 0;
  if (given.stop_count > 0) require(given.stop, "stop");
  for (std::size_t i = 0; i < given.stop_count; ++i) {
    require(given.stop[i], "a stop string");
    request.stop.emplace_back(given.stop[i]);
  }
  return request;
}

sift_finish finish(sift::FinishReason reason) {
  switch (reason) {
    case sift::FinishReason::stop:
      return SIFT_FINISH_STOP;
    case sift::FinishReason::length:
      return SIFT_FINISH_LENGTH;
    case sift::FinishReason::interrupted:
      return SIFT_FINISH_INTERRUPTED;
  }
  return SIFT_FINISH_INTERRUPTED;
}

sift_statistics statistics_of(const sift::GenerationResult& result) {
  const sift::AttentionStatistics s = result.attention.summary();
  const double none = std::numeric_limits<double>::quiet_NaN();
  return {sizeof(sift_statistics),
          result.prompt_tokens,
          result.generated_tokens,
          result.prefill_seconds,
          result.decode_seconds,
          finish(result.finish_reason),
          s.realised_sparsity.value_or(none),
          s.realised_sparsity_after_warmup.value_or(none),
          s.union_density.value_or(none),
          s.kept_mass.value_or(none),
          s.v_bytes_read,
          s.v_bytes_dense,
          s.sparse_steps,
          s.dense_steps,
          s.degenerate_fits,
          s.ill_determined,
          s.empty_steps,
          s.candidate_density.value_or(none),
          s.k_bytes_read,
          s.k_bytes_dense};
}

/// Writes what fits of `values`, and their number.
template <class T, class Values>
void copy_out(const Values& values, T* target, std::size_t capacity, std::size_t* count) {
  require(count, "the count");
  if (capacity > 0) require(target, "the buffer");
  *count = values.size();
  std::copy_n(values.begin(), std::min(capacity, values.size()), target);
}

}  // namespace

int sift_c_version(void) { return SIFT_C_VERSION; }

const char* sift_version(void) { return sift::build_information().version; }

const char* sift_last_error(void) { return last_error.c_str(); }

sift_status sift_engine_options_init(sift_engine_options* options, size_t size) {
  return guarded(
      [&] { write_struct(options, size, default_engine_options(), "sift_engine_options"); });
}

sift_status sift_generation_options_init(sift_generation_options* options, size_t size) {
  return guarded([&] {
    write_struct(options, size, default_generation_options(), "sift_generation_options");
  });
}

sift_status sift_engine_open(const char* path, const sift_engine_options* options,
                             sift_engine** engine) {
  return guarded([&] {
    require(path, "the path");
    require(engine, "the engine's address");
    *engine = nullptr;
    const auto given = read_struct(options, default_engine_options(), "sift_engine_options");
    *engine = new sift_engine(engine_options(path, given));
  });
}

void sift_engine_close(sift_engine* engine) { delete engine; }

int64_t sift_engine_context(const sift_engine* engine) {
  return engine == nullptr ? 0 : engine->engine.context();
}

int32_t sift_engine_vocabulary(const sift_engine* engine) {
  return engine == nullptr ? 0 : engine->engine.tokenizer().size();
}

sift_status sift_tokenize(const sift_engine* engine, const char* text, size_t bytes, uint32_t flags,
                          int32_t* ids, size_t capacity, size_t* count) {
  return guarded([&] {
    require(engine, "the engine");
    if (bytes > 0) require(text, "the text");
    if ((flags & ~std::uint32_t{SIFT_PARSE_SPECIAL | SIFT_ADD_BOS}) != 0) {
      throw Error(ErrorKind::invalid_argument, fmt::format("flags are {}, expected 0 to 3", flags));
    }
    const std::string_view view(bytes > 0 ? text : "", bytes);
    const auto parse =
        (flags & SIFT_PARSE_SPECIAL) != 0 ? sift::ParseSpecial::yes : sift::ParseSpecial::no;
    const sift::Tokenizer& tokenizer = engine->engine.tokenizer();
    const auto tokens = (flags & SIFT_ADD_BOS) != 0 ? tokenizer.encode_prompt(view, parse)
                                                    : tokenizer.encode(view, parse);
    copy_out(tokens, ids, capacity, count);
  });
}

sift_status sift_detokenize(const sift_engine* engine, const int32_t* ids, size_t count, char* text,
                            size_t capacity, size_t* bytes) {
  return guarded([&] {
    require(engine, "the engine");
    if (count > 0) require(ids, "the ids");
    copy_out(engine->engine.tokenizer().decode({ids, count}), text, capacity, bytes);
  });
}

sift_status sift_session_open(sift_engine* engine, const char* attention, sift_session** session) {
  return guarded([&] {
    require(engine, "the engine");
    require(attention, "the attention policy");
    require(session, "the session's address");
    *session = nullptr;
    const sift::Policy policy = sift::parse_policy(attention);
    *session = new sift_session{engine->engine.start_session(policy), ""};
  });
}

void sift_session_close(sift_session* session) { delete session; }

sift_status sift_generate(sift_session* session, const int32_t* prompt, size_t count,
                          const sift_generation_options* options, sift_token_callback callback,
                          void* context, sift_statistics* statistics) {
  return guarded([&] {
    require(session, "the session");
    if (count > 0) require(prompt, "the prompt");
    sift::GenerationRequest request = generation_request(
        read_struct(options, default_generation_options(), "sift_generation_options"));
    request.prompt.assign(prompt, prompt + count);
    const auto result = session->session->generate(request, [&](const sift::GeneratedToken& token) {
      return callback == nullptr ||
             callback(context, token.id, token.text.c_str(), token.text.size()) == 0;
    });
    session->notice = result.notice;
    if (statistics != nullptr) {
      write_struct(statistics, statistics->size, statistics_of(result), "sift_statistics");
    }
  });
}

const char* sift_session_notice(const sift_session* session) {
  return session == nullptr ? "" : session->notice.c_str();
}
