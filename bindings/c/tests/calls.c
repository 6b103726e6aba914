/* Every function of pbe.h, right and wrong: calls MODEL BYTES DATA OUTPUT. MODEL and BYTES are the same network; the
 * second doesn't say its normalisation. */
#include <pbe.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, pbe_message()); \
            exit(1); \
        } \
    } while (0)
#define SAYS(call, code, words) CHECK((call) == (code) && strstr(pbe_message(), words))

enum { CLASSES = 2 };

static const char *settings[] = {"batch=8", "initial_set.no_sign=0", "rounds.*.adversarial.epochs=1",
                                 "rounds.*.clean.epochs=1"};
static const pbe_options options = {.device = "cpu", .threads = 2, .settings = settings, .settings_count = 4};

static void *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    CHECK(file && !fseek(file, 0, SEEK_END));
    *len = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*len);
    CHECK(bytes && fread(bytes, 1, *len, file) == *len);
    fclose(file);
    return bytes;
}

typedef struct {
    size_t calls, end_at, losses;
} Watch;

static int watch(void *context, size_t round, const char *phase, size_t done, size_t total, float loss) {
    Watch *seen = context;
    CHECK(round < 10 && strlen(phase) > 2 && done <= total);
    seen->losses += !isnan(loss);
    return ++seen->calls == seen->end_at;
}

static void models(const char *path, const char *nameless, pbe_images *images) {
    pbe_model *model = (pbe_model *)1;
    SAYS(pbe_model_open("no/such.pt", &model), PBE_WRONG, "no/such.pt");
    CHECK(!model);
    SAYS(pbe_model_open(NULL, &model), PBE_WRONG, "path is NULL");
    SAYS(pbe_model_open("\xff", &model), PBE_WRONG, "path is not UTF-8");
    SAYS(pbe_model_open(path, NULL), PBE_WRONG, "model is NULL");
    SAYS(pbe_model_from_bytes("<html>", 6, &model), PBE_WRONG, "HTML");
    SAYS(pbe_model_from_bytes(path, SIZE_MAX, &model), PBE_WRONG, "a length of");
    SAYS(pbe_model_save(NULL, "x"), PBE_WRONG, "model is NULL");
    CHECK(pbe_model_classes(NULL) == 0);

    size_t len;
    void *bytes = read_file(nameless, &len);
    CHECK(pbe_model_from_bytes(bytes, len, &model) == PBE_OK);
    free(bytes);
    uint32_t classes[1];
    SAYS(pbe_predict(model, images, &options, classes, 1), PBE_WRONG, "normalisation");
    SAYS(pbe_model_set_normalisation(model, "nonsense"), PBE_WRONG, "nonsense");
    CHECK(pbe_model_set_normalisation(model, "identity") == PBE_OK);
    CHECK(pbe_model_fit(model, images, &options) == PBE_OK);
    SAYS(pbe_model_save(model, "no/such/folder/m.safetensors"), PBE_FAILED, "no/such/folder");
    pbe_model_free(model);
    pbe_model_free(NULL);
}

static void data(void) {
    uint8_t pixels[12] = {0};
    uint32_t label = 1;
    pbe_images *images;
    SAYS(pbe_images_new(pixels, 11, &label, 1, 2, 2, 3, CLASSES, &images), PBE_WRONG, "11 bytes are not 1 images");
    SAYS(pbe_images_new(NULL, 12, &label, 1, 2, 2, 3, CLASSES, &images), PBE_WRONG, "pixels is NULL");
    SAYS(pbe_images_new(pixels, 12, &label, 1, 2, 2, 3, 1, &images), PBE_WRONG, "label 1 of 1 classes");
    CHECK(!images && !pbe_images_count(NULL) && !pbe_images_pixels(NULL, NULL) && !pbe_images_labels(NULL));
    CHECK(pbe_images_new(pixels, 12, &label, 1, 2, 2, 3, CLASSES, &images) == PBE_OK);
    CHECK(pbe_images_count(images) == 1 && pbe_images_labels(images)[0] == 1);
    pbe_images_free(images);
    pbe_images_free(NULL);
}

static void measures(const pbe_model *model, const pbe_images *train) {
    size_t count = pbe_images_count(train);
    uint32_t *classes = calloc(count, sizeof *classes);
    float *logits = calloc(count * CLASSES, sizeof *logits);
    CHECK(pbe_predict(model, train, &options, classes, count) == PBE_OK);
    CHECK(pbe_logits(model, train, &options, logits, count * CLASSES) == PBE_OK);
    for (size_t i = 0; i < count; i++) CHECK(classes[i] == (logits[2 * i + 1] > logits[2 * i]));
    SAYS(pbe_predict(model, train, &options, classes, count - 1), PBE_WRONG, "classes: room for");
    SAYS(pbe_predict(model, NULL, &options, classes, count), PBE_WRONG, "images is NULL");
    SAYS(pbe_logits(model, train, &options, logits, count), PBE_WRONG, "logits: room for");
    pbe_options wrong = {.device = "gpu"};
    SAYS(pbe_predict(model, train, &wrong, classes, count), PBE_WRONG, "device `gpu`: it is one of");

    pbe_inspection found;
    CHECK(pbe_inspect(model, train, &options, &found, classes, count, NULL, 0) == PBE_OK);
    CHECK(found.verdict <= PBE_INFECTED && found.p_value > 0 && found.suspects <= count);
    SAYS(pbe_inspect(model, train, &options, &found, classes, 1, NULL, 0), PBE_WRONG, "suspects: room for 1");

    pbe_images *examples;
    CHECK(pbe_attack(model, train, 8, &options, &examples) == PBE_OK);
    size_t len, other, moved = 0;
    const uint8_t *before = pbe_images_pixels(train, &len), *after = pbe_images_pixels(examples, &other);
    CHECK(len == other && len % count == 0);
    for (size_t i = 0; i < len; i++) {
        CHECK(abs(before[i] - after[i]) <= 9);
        moved += before[i] != after[i];
    }
    CHECK(moved > len / 2);
    pbe_images_free(examples);
    SAYS(pbe_attack(model, train, -1, &options, &examples), PBE_WRONG, "-1");
    CHECK(!examples);
    free(classes);
    free(logits);
}

static void purification(const pbe_model *model, const pbe_images *train, const char *output) {
    size_t count = pbe_images_count(train);
    pbe_model *purified = (pbe_model *)1;
    Watch third = {.end_at = 3}, all = {0};
    SAYS(pbe_purify(model, train, &options, watch, &third, &purified), PBE_INTERRUPTED, "the callback ended the run");
    CHECK(third.calls == 3 && !purified);
    pbe_options wrong = {.device = "cpu", .settings = (const char *[]){"nonsense=1"}, .settings_count = 1};
    SAYS(pbe_purify(model, train, &wrong, NULL, NULL, &purified), PBE_WRONG, "nonsense");
    CHECK(pbe_purify(model, train, &options, watch, &all, &purified) == PBE_OK);
    CHECK(all.calls > 10 && all.losses > 5 && all.losses < all.calls);
    float *scores = calloc(count, sizeof *scores);
    CHECK(pbe_score(model, purified, train, &options, scores, count) == PBE_OK);
    for (size_t i = 0; i < count; i++) CHECK(scores[i] >= -1.001f && scores[i] <= 1.001f);
    SAYS(pbe_score(model, purified, train, &options, scores, 0), PBE_WRONG, "room for 0");
    free(scores);
    CHECK(pbe_model_save(purified, output) == PBE_OK);
    pbe_model_free(purified);
}

int main(int count, char **arguments) {
    CHECK(count == 5 && !*pbe_message());
    pbe_model *model;
    pbe_images *train, *test;
    CHECK(pbe_model_open(arguments[1], &model) == PBE_OK && pbe_model_classes(model) == CLASSES);
    SAYS(pbe_data_open("no/such", model, &options, &train, &test), PBE_WRONG, "no/such");
    CHECK(!train && !test);
    CHECK(pbe_data_open(arguments[3], model, &options, &train, &test) == PBE_OK && train && test);
    models(arguments[1], arguments[2], train);
    data();
    measures(model, test);
    purification(model, train, arguments[4]);
    pbe_images_free(train);
    pbe_images_free(test);
    pbe_model_free(model);
    puts("all calls did as pbe.h says");
    return 0;
}
