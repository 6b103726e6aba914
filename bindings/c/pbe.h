/* pbe in C: Progressive Backdoor Erasing. docs/bindings.md has an example.
 *
 * Every function that can fail returns 0 or one of the codes below, and pbe_message() says in one line what was wrong.
 * What it was to give is then NULL, or left as it was. A pointer may be NULL only where it says so.
 * A handle may be used by several threads at once, unless one of them changes or frees it.
 */
#ifndef PBE_H
#define PBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    PBE_OK = 0,
    PBE_FAILED = 1,        /* the run failed, or a file can't be written */
    PBE_WRONG = 2,         /* arguments or inputs are wrong */
    PBE_INTERRUPTED = 130, /* a callback ended the run */
    PBE_BUG = 70           /* pbe itself is wrong: please report it */
};

typedef struct pbe_model pbe_model;
typedef struct pbe_images pbe_images;

/* Where and how to compute. All zero means the defaults, and so does NULL in its place. */
typedef struct {
    const char *device;          /* "auto" (NULL), "cpu", "cuda", "cuda:1" */
    size_t threads;              /* 0: all */
    uint64_t seed;
    int no_flip;                 /* a mirrored image shows something else: digits, traffic signs */
    int clean;                   /* pbe_purify: the images are known to be clean */
    const char *const *settings; /* pbe_purify: "rounds.*.clean.epochs=5" and the like; may be NULL */
    size_t settings_count;
} pbe_options;

/* What went wrong last in this thread, valid until its next failure; "" if nothing did. */
const char *pbe_message(void);

/* A model: safetensors or a PyTorch checkpoint, in which nothing is executed. */
int pbe_model_open(const char *path, pbe_model **model);
int pbe_model_from_bytes(const void *bytes, size_t len, pbe_model **model);
/* Writes safetensors, atomically. */
int pbe_model_save(const pbe_model *model, const char *path);
/* How images are normalised, where the file doesn't say: "cifar10" and other names, or "mean,mean,mean/std,std,std". */
int pbe_model_set_normalisation(pbe_model *model, const char *normalisation);
/* Finds the normalisation on labelled images. pbe_data_open does it for its own. */
int pbe_model_fit(pbe_model *model, const pbe_images *images, const pbe_options *options);
/* 0 for NULL. */
size_t pbe_model_classes(const pbe_model *model);
/* NULL is fine. */
void pbe_model_free(pbe_model *model);

/* Reads a data set for the model, and fits both to each other. `test` may be NULL; without test images it gives NULL. */
int pbe_data_open(const char *path, pbe_model *model, const pbe_options *options, pbe_images **train, pbe_images **test);
/* Copies images: `pixels` are count x height x width x channels bytes, with a label below `classes` for each image. */
int pbe_images_new(const uint8_t *pixels, size_t pixels_len, const uint32_t *labels, size_t count, size_t height,
                   size_t width, size_t channels, size_t classes, pbe_images **images);
/* 0 for NULL. */
size_t pbe_images_count(const pbe_images *images);
/* Valid as long as the images; NULL for NULL. `len`, which may be NULL, is the number of bytes. */
const uint8_t *pbe_images_pixels(const pbe_images *images, size_t *len);
/* One for each image. */
const uint32_t *pbe_images_labels(const pbe_images *images);
/* NULL is fine. */
void pbe_images_free(pbe_images *images);

/* The class of each image; `len` has to be the number of images. */
int pbe_predict(const pbe_model *model, const pbe_images *images, const pbe_options *options, uint32_t *classes,
                size_t len);
/* A row of logits for each image; `len` has to be images x classes. */
int pbe_logits(const pbe_model *model, const pbe_images *images, const pbe_options *options, float *logits, size_t len);
/* How likely each image is clean, -1 to 1, from the model before and after; `len` has to be the number of images. */
int pbe_score(const pbe_model *infected, const pbe_model *purified, const pbe_images *images,
              const pbe_options *options, float *scores, size_t len);
/* Adversarial examples: seven PGD steps in the L-infinity ball of radius epsilon/255. */
int pbe_attack(const pbe_model *model, const pbe_images *images, float epsilon, const pbe_options *options,
               pbe_images **examples);

enum { PBE_NO_SIGN = 0, PBE_UNDECIDED = 1, PBE_INFECTED = 2 };

typedef struct {
    int verdict;
    double p_value;   /* how often a benign model looks as infected, at most */
    size_t suspects;  /* images */
    size_t targets;   /* labels of the attacker; 0 unless infected */
} pbe_inspection;

/* Is the model infected? `suspects` has room for all images and gets the suspected ones, the most suspicious first;
 * `targets` has room for all classes. Each may be NULL with a length of 0. */
int pbe_inspect(const pbe_model *model, const pbe_images *images, const pbe_options *options,
                pbe_inspection *inspection, uint32_t *suspects, size_t suspects_len, uint32_t *targets,
                size_t targets_len);

/* `done` of `total` units of a phase; `loss` is NaN where the phase doesn't train. Anything but 0 ends the run. It is
 * called in the thread that called pbe_purify, and may not leave by longjmp or an exception. */
typedef int (*pbe_progress)(void *context, size_t round, const char *phase, size_t done, size_t total, float loss);

/* Erases what may be planted in the model, from its training images. `progress` may be NULL. */
int pbe_purify(const pbe_model *model, const pbe_images *images, const pbe_options *options, pbe_progress progress,
               void *context, pbe_model **purified);

#ifdef __cplusplus
}
#endif
#endif
