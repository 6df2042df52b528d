/* The C interface, used as a C program uses it. Prints what was expected and ends with 1 when
 * something is not so.
 *
 *   c_interface_test MODEL
 */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sift/sift.h"

static int failures = 0;

#define EXPECT(condition)                                                                \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      fprintf(stderr, "%s:%d: expected %s (last error: %s)\n", __FILE__, __LINE__,       \
              #condition, sift_last_error());                                            \
      ++failures;                                                                        \
    }                                                                                    \
  } while (0)

struct text {
  char bytes[4096];
  size_t size;
  int tokens;
  int stop_after; /* 0: never */
};

static int append(void* context, int32_t id, const char* text, size_t bytes) {
  struct text* all = context;
  (void)id;
  if (all->size + bytes <= sizeof(all->bytes)) memcpy(all->bytes + all->size, text, bytes);
  all->size += bytes;
  all->tokens += 1;
  return all->tokens == all->stop_after;
}

static void test_tokens(const sift_engine* engine) {
  const char* text = "Hi<|im_end|>";
  int32_t ids[64];
  char back[64];
  size_t count = 0;
  size_t bytes = 0;
  EXPECT(sift_tokenize(engine, text, strlen(text), SIFT_PARSE_SPECIAL, ids, 64, &count) == SIFT_OK);
  EXPECT(count == 3 && ids[2] == 2);
  EXPECT(sift_tokenize(engine, text, strlen(text), 0, NULL, 0, &count) == SIFT_OK);
  EXPECT(count == 11); /* "en" is one token */
  EXPECT(sift_detokenize(engine, ids, 3, back, sizeof(back), &bytes) == SIFT_OK);
  EXPECT(bytes == strlen(text) && memcmp(back, text, bytes) == 0);
  EXPECT(sift_detokenize(engine, ids, 3, back, 1, &bytes) == SIFT_OK && bytes == strlen(text));
  ids[0] = 1000000;
  EXPECT(sift_detokenize(engine, ids, 3, back, sizeof(back), &bytes) == SIFT_INVALID_ARGUMENT);
  EXPECT(sift_tokenize(engine, "\xff", 1, 0, ids, 64, &count) == SIFT_INVALID_ARGUMENT);
  EXPECT(sift_tokenize(engine, text, 2, 4, ids, 64, &count) == SIFT_INVALID_ARGUMENT);
}

static void test_generation(sift_engine* engine) {
  const int32_t prompt[] = {80, 81, 82, 83};
  sift_session* session = NULL;
  sift_generation_options options;
  sift_statistics statistics;
  struct text text = {{0}, 0, 0, 0};

  EXPECT(SIFT_GENERATION_OPTIONS_INIT(&options) == SIFT_OK);
  options.max_tokens = 12;
  options.ignore_end_of_text = 1;
  statistics.size = sizeof(statistics);
  EXPECT(sift_session_open(engine, "sift:paper,warmup=2", &session) == SIFT_OK);
  EXPECT(sift_generate(session, prompt, 4, &options, append, &text, &statistics) == SIFT_OK);
  EXPECT(text.tokens == 12 && text.size > 0);
  EXPECT(statistics.prompt_tokens == 4 && statistics.generated_tokens == 12);
  EXPECT(statistics.finish == SIFT_FINISH_LENGTH);
  EXPECT(statistics.sparse_steps > 0 && statistics.realised_sparsity >= 0);
  EXPECT(strcmp(sift_session_notice(session), "") == 0);

  text.tokens = 0;
  text.stop_after = 3;
  EXPECT(sift_generate(session, prompt, 4, &options, append, &text, &statistics) == SIFT_OK);
  EXPECT(statistics.finish == SIFT_FINISH_INTERRUPTED && text.tokens == 3);
  EXPECT(strstr(sift_session_notice(session), "warm-up") != NULL);

  EXPECT(sift_generate(session, NULL, 0, &options, append, &text, NULL) == SIFT_INVALID_ARGUMENT);
  EXPECT(strstr(sift_last_error(), "empty") != NULL);
  options.temperature = -1;
  EXPECT(sift_generate(session, prompt, 4, &options, NULL, NULL, NULL) == SIFT_INVALID_ARGUMENT);
  sift_session_close(session);

  EXPECT(sift_session_open(engine, "full", &session) == SIFT_OK);
  EXPECT(SIFT_GENERATION_OPTIONS_INIT(&options) == SIFT_OK);
  options.max_tokens = 2;
  EXPECT(sift_generate(session, prompt, 4, &options, NULL, NULL, &statistics) == SIFT_OK);
  EXPECT(isnan(statistics.realised_sparsity));
  sift_session_close(session);
  EXPECT(sift_session_open(engine, "sieve", &session) == SIFT_INVALID_ARGUMENT && session == NULL);
}

/* A program that was compiled against a version with fewer members. */
static void test_older_structs(const char* model) {
  sift_engine_options options;
  sift_engine* engine = NULL;
  memset(&options, 0x5a, sizeof(options));
  EXPECT(sift_engine_options_init(&options, offsetof(sift_engine_options, threads)) == SIFT_OK);
  options.backend = "reference";
  EXPECT(sift_engine_open(model, &options, &engine) == SIFT_OK);
  sift_engine_close(engine);
  options.size = 0;
  EXPECT(sift_engine_open(model, &options, &engine) == SIFT_INVALID_ARGUMENT && engine == NULL);
}

static void test_refusals(const char* model) {
  sift_engine* engine = NULL;
  sift_engine_options options;
  EXPECT(SIFT_ENGINE_OPTIONS_INIT(&options) == SIFT_OK);
  options.backend = "cuda";
  EXPECT(sift_engine_open(model, &options, &engine) == SIFT_INVALID_ARGUMENT);
  EXPECT(strstr(sift_last_error(), "cuda") != NULL);
  EXPECT(sift_engine_open("/no/such/file", NULL, &engine) == SIFT_BAD_FILE && engine == NULL);
  EXPECT(sift_engine_open(NULL, NULL, &engine) == SIFT_INVALID_ARGUMENT);
  EXPECT(sift_engine_open(model, NULL, NULL) == SIFT_INVALID_ARGUMENT);
  EXPECT(sift_session_open(NULL, "full", NULL) == SIFT_INVALID_ARGUMENT);
  sift_engine_close(NULL);
  sift_session_close(NULL);
}

int main(int argc, char** argv) {
  sift_engine* engine = NULL;
  sift_engine_options options;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  EXPECT(sift_c_version() == SIFT_C_VERSION);
  EXPECT(SIFT_ENGINE_OPTIONS_INIT(&options) == SIFT_OK);
  options.backend = "reference";
  EXPECT(sift_engine_open(argv[1], &options, &engine) == SIFT_OK);
  if (engine == NULL) return 1;
  EXPECT(sift_engine_context(engine) == 512 && sift_engine_vocabulary(engine) > 256);
  test_tokens(engine);
  test_generation(engine);
  sift_engine_close(engine);
  test_older_structs(argv[1]);
  test_refusals(argv[1]);
  return failures == 0 ? 0 : 1;
}
