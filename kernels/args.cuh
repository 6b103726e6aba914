// The kernels' structs of arguments, made of the table in src/device/cuda/kernels.rs by
// `PBE_WRITE_ARGS=1 cargo test --lib args_header`. Do not edit.
#pragma once
#include "common.cuh"

struct Segment;

template <class E> struct LoadFilterArgs {
    const float *weights, *scale;
    E* filter;
    u32 total, kernel, stride, out_channels, in_channels, columns, dgrad;
};
static_assert(sizeof(LoadFilterArgs<bf16>) == 56 && __builtin_offsetof(LoadFilterArgs<bf16>, dgrad) == 48, "");
typedef LoadFilterArgs<bf16> LoadFilterBf16Args;
typedef LoadFilterArgs<float> LoadFilterF32Args;

template <class E> struct ConvInputArgs {
    const float *input, *scale, *shift;
    E* output;
    u32 total, relu, channels, padded_channels;
};
static_assert(sizeof(ConvInputArgs<bf16>) == 48 && __builtin_offsetof(ConvInputArgs<bf16>, padded_channels) == 44, "");
typedef ConvInputArgs<bf16> ConvInputBf16Args;
typedef ConvInputArgs<float> ConvInputF32Args;

struct ConvMaskArgs {
    const float *input, *scale, *shift;
    u32* mask;
    u32 total, channels, words;
};
static_assert(sizeof(ConvMaskArgs) == 48 && __builtin_offsetof(ConvMaskArgs, words) == 40, "");

template <class E> struct ConvFpropArgs {
    const E *x, *w;
    const float *bias, *residual;
    const bf16* residual_bf16;
    float* y;
    bf16* y_bf16;
    E* next;
    const float *next_scale, *next_shift;
    u32* next_mask;
    double* partial;
    u32 next_relu, rows, out_height, out_width, out_channels, column_tiles, height, width, vectors, kernel;
    u32 stride, pad;
};
static_assert(sizeof(ConvFpropArgs<bf16>) == 144 && __builtin_offsetof(ConvFpropArgs<bf16>, pad) == 140, "");
typedef ConvFpropArgs<bf16> ConvFpropBf16Args;
typedef ConvFpropArgs<float> ConvFpropF32Args;

template <class E> struct ConvDgradArgs {
    const E *gradient, *w;
    const float* add;
    const bf16* add_bf16;
    const u32* mask;
    const float *scale, *residual;
    const bf16* residual_bf16;
    float* output;
    E* next;
    const float *clean, *epsilons, *alphas;
    float* adversarial;
    const Run* run;
    u32 count, height, width, channels, column_tiles, out_height, out_width, vectors, kernel, stride;
    u32 pad;
};
static_assert(sizeof(ConvDgradArgs<bf16>) == 168 && __builtin_offsetof(ConvDgradArgs<bf16>, pad) == 160, "");
typedef ConvDgradArgs<bf16> ConvDgradBf16Args;
typedef ConvDgradArgs<float> ConvDgradF32Args;

template <class E> struct ConvWgradArgs {
    const E *x, *gradient;
    float* partial;
    u32 column_tiles, out_height, out_width, out_vectors, height, width, vectors, kernel, stride, pad;
    u32 pixels, pixels_per_part;
};
static_assert(sizeof(ConvWgradArgs<bf16>) == 72 && __builtin_offsetof(ConvWgradArgs<bf16>, pixels_per_part) == 68, "");
typedef ConvWgradArgs<bf16> ConvWgradBf16Args;
typedef ConvWgradArgs<float> ConvWgradF32Args;

struct ConvWgradReduceArgs {
    const float* partial;
    float* weight_gradient;
    u32 total, parts, taps, out_channels, in_channels, padded_out, padded_in;
};
static_assert(sizeof(ConvWgradReduceArgs) == 48 && __builtin_offsetof(ConvWgradReduceArgs, padded_in) == 40, "");

struct NormAffineArgs {
    const float *gamma, *beta, *mean, *variance;
    float *scale, *shift;
    u32 channels;
    float epsilon;
};
static_assert(sizeof(NormAffineArgs) == 56 && __builtin_offsetof(NormAffineArgs, epsilon) == 52, "");

struct NormStatsPartialArgs {
    const float* x;
    double* partial;
    u32 rows, channels, rows_per_part;
};
static_assert(sizeof(NormStatsPartialArgs) == 32 && __builtin_offsetof(NormStatsPartialArgs, rows_per_part) == 24, "");

struct NormStatsArgs {
    const double* partial;
    const float *x, *gamma, *beta;
    float *running_mean, *running_variance, *mean, *inverse_std, *scale, *shift;
    u32 rows, channels, parts;
    float momentum, epsilon;
};
static_assert(sizeof(NormStatsArgs) == 104 && __builtin_offsetof(NormStatsArgs, epsilon) == 96, "");

struct NormDgradPartialArgs {
    const float *x, *gradient, *mean, *scale, *shift;
    double* partial;
    u32 rows, channels, rows_per_part;
};
static_assert(sizeof(NormDgradPartialArgs) == 64 && __builtin_offsetof(NormDgradPartialArgs, rows_per_part) == 56, "");

struct NormDgradReduceArgs {
    const double* partial;
    const float* inverse_std;
    float *gamma_gradient, *beta_gradient;
    u32 channels, parts;
};
static_assert(sizeof(NormDgradReduceArgs) == 40 && __builtin_offsetof(NormDgradReduceArgs, parts) == 36, "");

struct NormDgradArgs {
    const float *x, *gamma, *mean, *inverse_std, *scale, *shift, *gamma_gradient, *beta_gradient, *gradient, *residual;
    float* output;
    u32 rows, channels, rows_per_part;
    bf16* next;
    u32 padded;
};
static_assert(sizeof(NormDgradArgs) == 120 && __builtin_offsetof(NormDgradArgs, padded) == 112, "");

struct MaxPoolArgs {
    const float *input, *scale, *shift;
    float* output;
    u32* argmax;
    u32 total, relu, height, width, channels, out_height, out_width, kernel, stride, pad;
};
static_assert(sizeof(MaxPoolArgs) == 80 && __builtin_offsetof(MaxPoolArgs, pad) == 76, "");

struct MaxPoolDgradArgs {
    const float* gradient;
    const u32* argmax;
    float* output;
    u32 height, width, channels, out_height, out_width, kernel, stride, pad;
};
static_assert(sizeof(MaxPoolDgradArgs) == 56 && __builtin_offsetof(MaxPoolDgradArgs, pad) == 52, "");

struct AdaptiveAvgPoolArgs {
    const float* input;
    float* output;
    u32 total, height, width, channels, side;
};
static_assert(sizeof(AdaptiveAvgPoolArgs) == 40 && __builtin_offsetof(AdaptiveAvgPoolArgs, side) == 32, "");

struct AdaptiveAvgPoolDgradArgs {
    const float* gradient;
    float* output;
    u32 total, height, width, channels, side;
};
static_assert(sizeof(AdaptiveAvgPoolDgradArgs) == 40 && __builtin_offsetof(AdaptiveAvgPoolDgradArgs, side) == 32, "");

struct AddArgs {
    const float *left, *left_scale, *left_shift, *right, *right_scale, *right_shift;
    float* output;
    u32 total, channels, left_relu, right_relu;
};
static_assert(sizeof(AddArgs) == 72 && __builtin_offsetof(AddArgs, right_relu) == 68, "");

struct UpsampleArgs {
    const float *input, *scale, *shift;
    float* output;
    u32 total, height, width, channels, relu;
};
static_assert(sizeof(UpsampleArgs) == 56 && __builtin_offsetof(UpsampleArgs, relu) == 48, "");

struct UpsampleDgradArgs {
    const float* gradient;
    float* output;
    u32 total, height, width, channels;
};
static_assert(sizeof(UpsampleDgradArgs) == 32 && __builtin_offsetof(UpsampleDgradArgs, channels) == 28, "");

struct ScaledTanhArgs {
    const float *input, *scale, *shift;
    float* output;
    u32 total, channels;
};
static_assert(sizeof(ScaledTanhArgs) == 40 && __builtin_offsetof(ScaledTanhArgs, channels) == 36, "");

struct ScaledTanhDgradArgs {
    const float *input, *scale, *shift, *gradient, *factor;
    float* output;
    u32 total, channels;
};
static_assert(sizeof(ScaledTanhDgradArgs) == 56 && __builtin_offsetof(ScaledTanhDgradArgs, channels) == 52, "");

struct GlobalAvgPoolArgs {
    const float* input;
    float* output;
    u32 total, pixels, channels;
};
static_assert(sizeof(GlobalAvgPoolArgs) == 32 && __builtin_offsetof(GlobalAvgPoolArgs, channels) == 24, "");

struct GlobalAvgPoolDgradArgs {
    const float* gradient;
    float* output;
    u32 total, pixels, channels;
};
static_assert(sizeof(GlobalAvgPoolDgradArgs) == 32 && __builtin_offsetof(GlobalAvgPoolDgradArgs, channels) == 24, "");

struct LinearArgs {
    const float *weight, *bias, *input;
    float* output;
    u32 total, inputs, outputs;
};
static_assert(sizeof(LinearArgs) == 48 && __builtin_offsetof(LinearArgs, outputs) == 40, "");

struct LinearDgradArgs {
    const float *weight, *gradient;
    float* output;
    u32 total, inputs, outputs;
};
static_assert(sizeof(LinearDgradArgs) == 40 && __builtin_offsetof(LinearDgradArgs, outputs) == 32, "");

struct LinearWgradArgs {
    const float *input, *gradient;
    float *weight_gradient, *bias_gradient;
    u32 total, images, inputs, outputs;
};
static_assert(sizeof(LinearWgradArgs) == 48 && __builtin_offsetof(LinearWgradArgs, outputs) == 44, "");

struct CrossEntropyArgs {
    const float* logits;
    const u32* labels;
    const float* teacher;
    float *loss, *gradient;
    u32 images, classes;
    float divisor;
    const Run* run;
};
static_assert(sizeof(CrossEntropyArgs) == 64 && __builtin_offsetof(CrossEntropyArgs, run) == 56, "");

struct CosineArgs {
    const float *logits, *reference;
    float* score;
    u32 images, classes;
};
static_assert(sizeof(CosineArgs) == 32 && __builtin_offsetof(CosineArgs, classes) == 28, "");

struct ClassifierForwardArgs {
    const float *input, *weight, *bias;
    float *features, *logits;
    u32 pixels, channels, classes;
    const float* reference;
    float* score;
};
static_assert(sizeof(ClassifierForwardArgs) == 72 && __builtin_offsetof(ClassifierForwardArgs, score) == 64, "");

struct ClassifierLossArgs {
    const float *input, *weight, *bias;
    float *features, *logits;
    u32 pixels, channels, classes;
    const u32* labels;
    const float* teacher;
    float *loss, *gradient, *feature_gradient, *output;
    bf16* next;
    float divisor;
    const Run* run;
};
static_assert(sizeof(ClassifierLossArgs) == 128 && __builtin_offsetof(ClassifierLossArgs, run) == 120, "");

struct LoadImagesArgs {
    const u8* images;
    const u32* indices;
    float* output;
    u32 set, height, width, from, channels, pad, flip;
    const Run* run;
};
static_assert(sizeof(LoadImagesArgs) == 64 && __builtin_offsetof(LoadImagesArgs, run) == 56, "");

struct RandomErasingArgs {
    const u32* indices;
    float* images;
    u32 height, width, channels;
    const Run* run;
};
static_assert(sizeof(RandomErasingArgs) == 40 && __builtin_offsetof(RandomErasingArgs, run) == 32, "");

struct PgdStartArgs {
    const float* clean;
    const u32* indices;
    const float* epsilons;
    float* adversarial;
    u32 elements, l2;
    const Run* run;
};
static_assert(sizeof(PgdStartArgs) == 48 && __builtin_offsetof(PgdStartArgs, run) == 40, "");

struct PgdStepArgs {
    const float *clean, *gradient, *epsilons, *alphas;
    float* adversarial;
    u32 elements;
    const Run* run;
};
static_assert(sizeof(PgdStepArgs) == 56 && __builtin_offsetof(PgdStepArgs, run) == 48, "");

struct SgdArgs {
    float* weights;
    const float* gradients;
    float* velocity;
    u32 total;
    const Run* run;
};
static_assert(sizeof(SgdArgs) == 40 && __builtin_offsetof(SgdArgs, run) == 32, "");

struct SgdWithFiltersArgs {
    float* weights;
    const float* gradients;
    float *velocity, *average;
    const Segment* segments;
    u32 count, trainable;
    const Run* run;
};
static_assert(sizeof(SgdWithFiltersArgs) == 56 && __builtin_offsetof(SgdWithFiltersArgs, run) == 48, "");

struct AdamArgs {
    float* weights;
    const float* gradients;
    float *first, *second;
    u32 total;
    const Run* run;
};
static_assert(sizeof(AdamArgs) == 48 && __builtin_offsetof(AdamArgs, run) == 40, "");

struct MovingAverageArgs {
    const float* weights;
    float* average;
    u32 total;
    const Run* run;
};
static_assert(sizeof(MovingAverageArgs) == 32 && __builtin_offsetof(MovingAverageArgs, run) == 24, "");

struct CopyArgs {
    const float* input;
    float* output;
    u32 total;
};
static_assert(sizeof(CopyArgs) == 24 && __builtin_offsetof(CopyArgs, total) == 16, "");
