#ifndef SIFT_SIFT_H_
#define SIFT_SIFT_H_

/*
 * The C interface: opaque handles, plain structs that carry their size, codes instead of
 * exceptions. It stays compatible as long as SIFT_C_VERSION does: later versions only add functions
 * and add members at the ends of structs.
 *
 * Every function that can fail returns a sift_status; sift_last_error() then tells in one sentence
 * what was wrong. One engine and its sessions are used from one thread at a time. Texts are UTF-8.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(readability-identifier-naming): names as C libraries have them */

#define SIFT_C_VERSION 1

typedef enum sift_status {
  SIFT_OK = 0,
  SIFT_INVALID_ARGUMENT = 2, /* an option, a prompt or a call that cannot be taken */
  SIFT_BAD_FILE = 3,         /* a model file that is not what it claims to be */
  SIFT_INPUT_OUTPUT = 4,     /* reading failed, or memory ran out */
  SIFT_NUMERICAL = 5         /* values that are not finite where finite ones are needed */
} sift_status;

/* A loaded model. */
typedef struct sift_engine sift_engine;
/* One sequence whose cached rows later generations build on. */
typedef struct sift_session sift_session;

/* SIFT_C_VERSION of the library that runs; "0.1.0" and the like; what the last call that failed in
 * this thread said (valid until the next one fails). */
int sift_c_version(void);
const char* sift_version(void);
const char* sift_last_error(void);

typedef struct sift_engine_options {
  size_t size;            /* sizeof(sift_engine_options), set by sift_engine_options_init */
  const char* backend;    /* "cpu" or "reference" */
  const char* compute;    /* "f32", "bf16" or "q8" */
  const char* cache_type; /* "f16", "bf16", "f32" or "q8_0" */
  int32_t threads;        /* 0: one per core that this process may use */
  int64_t context;        /* tokens that fit into a sequence; 0: what the model was made for */
} sift_engine_options;

#define SIFT_ENGINE_OPTIONS_INIT(options) \
  sift_engine_options_init((options), sizeof(sift_engine_options))
/* Sets the defaults of the members that a caller's struct of `size` bytes has. */
sift_status sift_engine_options_init(sift_engine_options* options, size_t size);

/* Loads a GGUF file. `options` may be null. */
sift_status sift_engine_open(const char* path, const sift_engine_options* options,
                             sift_engine** engine);
/* Its sessions must be closed before. Null is fine. */
void sift_engine_close(sift_engine* engine);
/* Tokens that fit into a sequence, and tokens that the model knows. 0 for null. */
int64_t sift_engine_context(const sift_engine* engine);
int32_t sift_engine_vocabulary(const sift_engine* engine);

#define SIFT_PARSE_SPECIAL 1 /* the text of special tokens means the tokens */
#define SIFT_ADD_BOS 2       /* the beginning-of-text token goes in front if the model wants one */

/* Writes the first `capacity` tokens of `text` to `ids` and their whole number to `count`, which
 * may be more: then call again with more room. */
sift_status sift_tokenize(const sift_engine* engine, const char* text, size_t bytes, uint32_t flags,
                          int32_t* ids, size_t capacity, size_t* count);
/* The same the other way. No terminating zero is written. */
sift_status sift_detokenize(const sift_engine* engine, const int32_t* ids, size_t count, char* text,
                            size_t capacity, size_t* bytes);

/* `attention` is a policy: "full", "sift", "sift:tau=0.9,warmup=64". */
sift_status sift_session_open(sift_engine* engine, const char* attention, sift_session** session);
/* Null is fine. */
void sift_session_close(sift_session* session);

typedef struct sift_generation_options {
  size_t size; /* sizeof(sift_generation_options), set by sift_generation_options_init */
  int64_t max_tokens;
  double temperature; /* 0 always takes the most probable token */
  int64_t top_k;      /* 0: off */
  double top_p;
  double min_p;
  double repetition_penalty;
  uint64_t seed;
  const char* const* stop; /* texts that generation ends before */
  size_t stop_count;
  int32_t ignore_end_of_text; /* nonzero: the model cannot end its text */
} sift_generation_options;

#define SIFT_GENERATION_OPTIONS_INIT(options) \
  sift_generation_options_init((options), sizeof(sift_generation_options))
sift_status sift_generation_options_init(sift_generation_options* options, size_t size);

typedef enum sift_finish {
  SIFT_FINISH_STOP = 0,       /* the model ended its text, or a stop string came */
  SIFT_FINISH_LENGTH = 1,     /* max_tokens or the end of the context was reached */
  SIFT_FINISH_INTERRUPTED = 2 /* the callback said so */
} sift_finish;

/* What a generation did. Fractions are NaN where there is nothing to tell: for the policy "full",
 * and where no row ran after the warm-up. Sums run from the session's last fresh start. */
typedef struct sift_statistics {
  size_t size; /* sizeof(sift_statistics), set by the caller */
  int64_t prompt_tokens;
  int64_t generated_tokens;
  double prefill_seconds;
  double decode_seconds;
  int32_t finish; /* sift_finish */
  double realised_sparsity;
  double realised_sparsity_after_warmup;
  double union_density;
  double kept_mass;
  int64_t v_bytes_read;
  int64_t v_bytes_dense;
  int64_t sparse_steps;
  int64_t dense_steps;
  int64_t degenerate_fits;
  int64_t ill_determined;
  int64_t empty_steps;
  double candidate_density; /* NaN too where scores are not estimated */
  int64_t k_bytes_read;
  int64_t k_bytes_dense;
} sift_statistics;

/* Called with every token and the whole characters that became certain with it (`bytes` may be 0;
 * the text ends in a zero that is not counted). Return nonzero to end generation. */
typedef int (*sift_token_callback)(void* context, int32_t id, const char* text, size_t bytes);

/* Continues the prompt, which holds everything from the session's beginning: what of it is cached
 * already is not run again. `options`, `callback` and `statistics` may be null. */
sift_status sift_generate(sift_session* session, const int32_t* prompt, size_t count,
                          const sift_generation_options* options, sift_token_callback callback,
                          void* context, sift_statistics* statistics);
/* What the last generation ran otherwise than asked, or "". Valid until the next one. */
const char* sift_session_notice(const sift_session* session);

/* NOLINTEND(readability-identifier-naming) */

#ifdef __cplusplus
}
#endif

#endif /* SIFT_SIFT_H_ */
