/* Reads a suspect model and its training data, purifies the model and writes it: example MODEL DATA OUTPUT [SETTING...] */
#include <pbe.h>
#include <stdio.h>

static int show(void *context, size_t round, const char *phase, size_t done, size_t total, float loss) {
    (void)context, (void)loss;
    fprintf(stderr, "\rround %zu, %s: %zu of %zu", round, phase, done, total);
    return 0; /* anything else ends the run */
}

int main(int count, char **arguments) {
    pbe_model *suspect = NULL, *purified = NULL;
    pbe_images *train = NULL;
    pbe_inspection found;
    if (count < 4) return 2;
    pbe_options options = {.settings = (const char *const *)arguments + 4, .settings_count = (size_t)count - 4};
    int code = pbe_model_open(arguments[1], &suspect);
    if (!code) code = pbe_data_open(arguments[2], suspect, NULL, &train, NULL);
    if (!code) code = pbe_inspect(suspect, train, NULL, &found, NULL, 0, NULL, 0);
    if (!code) printf("infected: %s, %zu suspects\n", found.verdict == PBE_INFECTED ? "yes" : "no", found.suspects);
    if (!code) code = pbe_purify(suspect, train, &options, show, NULL, &purified);
    if (!code) code = pbe_model_save(purified, arguments[3]);
    if (code) fprintf(stderr, "%s\n", pbe_message());
    pbe_images_free(train);
    pbe_model_free(purified);
    pbe_model_free(suspect);
    return code;
}
