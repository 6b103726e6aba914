// The kernels' structs of arguments, made of the table in src/device/cuda/kernels.rs by
// `PBE_WRITE_ARGS=1 cargo test --lib args_header`. Do not edit.
#pragma once
#include "common.cuh"

struct Segment;

struct LoadFilterBf16Args {
    const float* weights;
    const float* scale;
    bf16* filter;
    u32 total;
    u32 kernel;
    u32 stride;
    u32 out_channels;
    u32 in_channels;
    u32 columns;
    u32 dgrad;
};
static_assert(sizeof(LoadFilterBf16Args) == 56 && __builtin_offsetof(LoadFilterBf16Args, dgrad) == 48, "");

struct LoadFilterF32Args {
    const float* weights;
    const float* scale;
    float* filter;
    u32 total;
    u32 kernel;
    u32 stride;
    u32 out_channels;
    u32 in_channels;
    u32 columns;
    u32 dgrad;
};
static_assert(sizeof(LoadFilterF32Args) == 56 && __builtin_offsetof(LoadFilterF32Args, dgrad) == 48, "");

struct ConvInputBf16Args {
    const float* input;
    const float* scale;
    const float* shift;
    bf16* output;
    u32 total;
    u32 relu;
    u32 channels;
    u32 padded_channels;
};
static_assert(sizeof(ConvInputBf16Args) == 48 && __builtin_offsetof(ConvInputBf16Args, padded_channels) == 44, "");

struct ConvInputF32Args {
    const float* input;
    const float* scale;
    const float* shift;
    float* output;
    u32 total;
    u32 relu;
    u32 channels;
    u32 padded_channels;
};
static_assert(sizeof(ConvInputF32Args) == 48 && __builtin_offsetof(ConvInputF32Args, padded_channels) == 44, "");

struct ConvMaskArgs {
    const float* input;
    const float* scale;
    const float* shift;
    u32* mask;
    u32 total;
    u32 channels;
    u32 words;
};
static_assert(sizeof(ConvMaskArgs) == 48 && __builtin_offsetof(ConvMaskArgs, words) == 40, "");

struct ConvFpropBf16Args {
    const bf16* x;
    const bf16* w;
    const float* bias;
    const float* residual;
    const bf16* residual_bf16;
    float* y;
    bf16* y_bf16;
    bf16* next;
    const float* next_scale;
    const float* next_shift;
    u32* next_mask;
    double* partial;
    u32 next_relu;
    u32 rows;
    u32 out_height;
    u32 out_width;
    u32 out_channels;
    u32 column_tiles;
    u32 height;
    u32 width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(ConvFpropBf16Args) == 144 && __builtin_offsetof(ConvFpropBf16Args, pad) == 140, "");

struct ConvFpropF32Args {
    const float* x;
    const float* w;
    const float* bias;
    const float* residual;
    const bf16* residual_bf16;
    float* y;
    bf16* y_bf16;
    float* next;
    const float* next_scale;
    const float* next_shift;
    u32* next_mask;
    double* partial;
    u32 next_relu;
    u32 rows;
    u32 out_height;
    u32 out_width;
    u32 out_channels;
    u32 column_tiles;
    u32 height;
    u32 width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(ConvFpropF32Args) == 144 && __builtin_offsetof(ConvFpropF32Args, pad) == 140, "");

struct ConvDgradBf16Args {
    const bf16* gradient;
    const bf16* w;
    const float* add;
    const bf16* add_bf16;
    const u32* mask;
    const float* scale;
    const float* residual;
    const bf16* residual_bf16;
    float* output;
    bf16* next;
    const float* clean;
    const float* epsilons;
    const float* alphas;
    float* adversarial;
    const Run* run;
    u32 count;
    u32 height;
    u32 width;
    u32 channels;
    u32 column_tiles;
    u32 out_height;
    u32 out_width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(ConvDgradBf16Args) == 168 && __builtin_offsetof(ConvDgradBf16Args, pad) == 160, "");

struct ConvDgradF32Args {
    const float* gradient;
    const float* w;
    const float* add;
    const bf16* add_bf16;
    const u32* mask;
    const float* scale;
    const float* residual;
    const bf16* residual_bf16;
    float* output;
    float* next;
    const float* clean;
    const float* epsilons;
    const float* alphas;
    float* adversarial;
    const Run* run;
    u32 count;
    u32 height;
    u32 width;
    u32 channels;
    u32 column_tiles;
    u32 out_height;
    u32 out_width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(ConvDgradF32Args) == 168 && __builtin_offsetof(ConvDgradF32Args, pad) == 160, "");

struct ConvWgradBf16Args {
    const bf16* x;
    const bf16* gradient;
    float* partial;
    u32 column_tiles;
    u32 out_height;
    u32 out_width;
    u32 out_vectors;
    u32 height;
    u32 width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
    u32 pixels;
    u32 pixels_per_part;
};
static_assert(sizeof(ConvWgradBf16Args) == 72 && __builtin_offsetof(ConvWgradBf16Args, pixels_per_part) == 68, "");

struct ConvWgradF32Args {
    const float* x;
    const float* gradient;
    float* partial;
    u32 column_tiles;
    u32 out_height;
    u32 out_width;
    u32 out_vectors;
    u32 height;
    u32 width;
    u32 vectors;
    u32 kernel;
    u32 stride;
    u32 pad;
    u32 pixels;
    u32 pixels_per_part;
};
static_assert(sizeof(ConvWgradF32Args) == 72 && __builtin_offsetof(ConvWgradF32Args, pixels_per_part) == 68, "");

struct ConvWgradReduceArgs {
    const float* partial;
    float* weight_gradient;
    u32 total;
    u32 parts;
    u32 taps;
    u32 out_channels;
    u32 in_channels;
    u32 padded_out;
    u32 padded_in;
};
static_assert(sizeof(ConvWgradReduceArgs) == 48 && __builtin_offsetof(ConvWgradReduceArgs, padded_in) == 40, "");

struct NormAffineArgs {
    const float* gamma;
    const float* beta;
    const float* mean;
    const float* variance;
    float* scale;
    float* shift;
    u32 channels;
    float epsilon;
};
static_assert(sizeof(NormAffineArgs) == 56 && __builtin_offsetof(NormAffineArgs, epsilon) == 52, "");

struct NormStatsPartialArgs {
    const float* x;
    double* partial;
    u32 rows;
    u32 channels;
    u32 rows_per_part;
};
static_assert(sizeof(NormStatsPartialArgs) == 32 && __builtin_offsetof(NormStatsPartialArgs, rows_per_part) == 24, "");

struct NormStatsArgs {
    const double* partial;
    const float* x;
    const float* gamma;
    const float* beta;
    float* running_mean;
    float* running_variance;
    float* mean;
    float* inverse_std;
    float* scale;
    float* shift;
    u32 rows;
    u32 channels;
    u32 parts;
    float momentum;
    float epsilon;
};
static_assert(sizeof(NormStatsArgs) == 104 && __builtin_offsetof(NormStatsArgs, epsilon) == 96, "");

struct NormDgradPartialArgs {
    const float* x;
    const float* gradient;
    const float* mean;
    const float* scale;
    const float* shift;
    double* partial;
    u32 rows;
    u32 channels;
    u32 rows_per_part;
};
static_assert(sizeof(NormDgradPartialArgs) == 64 && __builtin_offsetof(NormDgradPartialArgs, rows_per_part) == 56, "");

struct NormDgradReduceArgs {
    const double* partial;
    const float* inverse_std;
    float* gamma_gradient;
    float* beta_gradient;
    u32 channels;
    u32 parts;
};
static_assert(sizeof(NormDgradReduceArgs) == 40 && __builtin_offsetof(NormDgradReduceArgs, parts) == 36, "");

struct NormDgradArgs {
    const float* x;
    const float* gamma;
    const float* mean;
    const float* inverse_std;
    const float* scale;
    const float* shift;
    const float* gamma_gradient;
    const float* beta_gradient;
    const float* gradient;
    const float* residual;
    float* output;
    u32 rows;
    u32 channels;
    u32 rows_per_part;
    bf16* next;
    u32 padded;
};
static_assert(sizeof(NormDgradArgs) == 120 && __builtin_offsetof(NormDgradArgs, padded) == 112, "");

struct MaxPoolArgs {
    const float* input;
    const float* scale;
    const float* shift;
    float* output;
    u32* argmax;
    u32 total;
    u32 relu;
    u32 height;
    u32 width;
    u32 channels;
    u32 out_height;
    u32 out_width;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(MaxPoolArgs) == 80 && __builtin_offsetof(MaxPoolArgs, pad) == 76, "");

struct MaxPoolDgradArgs {
    const float* gradient;
    const u32* argmax;
    float* output;
    u32 height;
    u32 width;
    u32 channels;
    u32 out_height;
    u32 out_width;
    u32 kernel;
    u32 stride;
    u32 pad;
};
static_assert(sizeof(MaxPoolDgradArgs) == 56 && __builtin_offsetof(MaxPoolDgradArgs, pad) == 52, "");

struct AdaptiveAvgPoolArgs {
    const float* input;
    float* output;
    u32 total;
    u32 height;
    u32 width;
    u32 channels;
    u32 side;
};
static_assert(sizeof(AdaptiveAvgPoolArgs) == 40 && __builtin_offsetof(AdaptiveAvgPoolArgs, side) == 32, "");

struct AdaptiveAvgPoolDgradArgs {
    const float* gradient;
    float* output;
    u32 total;
    u32 height;
    u32 width;
    u32 channels;
    u32 side;
};
static_assert(sizeof(AdaptiveAvgPoolDgradArgs) == 40 && __builtin_offsetof(AdaptiveAvgPoolDgradArgs, side) == 32, "");

struct AddArgs {
    const float* left;
    const float* left_scale;
    const float* left_shift;
    const float* right;
    const float* right_scale;
    const float* right_shift;
    float* output;
    u32 total;
    u32 channels;
    u32 left_relu;
    u32 right_relu;
};
static_assert(sizeof(AddArgs) == 72 && __builtin_offsetof(AddArgs, right_relu) == 68, "");

struct UpsampleArgs {
    const float* input;
    const float* scale;
    const float* shift;
    float* output;
    u32 total;
    u32 height;
    u32 width;
    u32 channels;
    u32 relu;
};
static_assert(sizeof(UpsampleArgs) == 56 && __builtin_offsetof(UpsampleArgs, relu) == 48, "");

struct UpsampleDgradArgs {
    const float* gradient;
    float* output;
    u32 total;
    u32 height;
    u32 width;
    u32 channels;
};
static_assert(sizeof(UpsampleDgradArgs) == 32 && __builtin_offsetof(UpsampleDgradArgs, channels) == 28, "");

struct ScaledTanhArgs {
    const float* input;
    const float* scale;
    const float* shift;
    float* output;
    u32 total;
    u32 channels;
};
static_assert(sizeof(ScaledTanhArgs) == 40 && __builtin_offsetof(ScaledTanhArgs, channels) == 36, "");

struct ScaledTanhDgradArgs {
    const float* input;
    const float* scale;
    const float* shift;
    const float* gradient;
    const float* factor;
    float* output;
    u32 total;
    u32 channels;
};
static_assert(sizeof(ScaledTanhDgradArgs) == 56 && __builtin_offsetof(ScaledTanhDgradArgs, channels) == 52, "");

struct GlobalAvgPoolArgs {
    const float* input;
    float* output;
    u32 total;
    u32 pixels;
    u32 channels;
};
static_assert(sizeof(GlobalAvgPoolArgs) == 32 && __builtin_offsetof(GlobalAvgPoolArgs, channels) == 24, "");

struct GlobalAvgPoolDgradArgs {
    const float* gradient;
    float* output;
    u32 total;
    u32 pixels;
    u32 channels;
};
static_assert(sizeof(GlobalAvgPoolDgradArgs) == 32 && __builtin_offsetof(GlobalAvgPoolDgradArgs, channels) == 24, "");

struct LinearArgs {
    const float* weight;
    const float* bias;
    const float* input;
    float* output;
    u32 total;
    u32 inputs;
    u32 outputs;
};
static_assert(sizeof(LinearArgs) == 48 && __builtin_offsetof(LinearArgs, outputs) == 40, "");

struct LinearDgradArgs {
    const float* weight;
    const float* gradient;
    float* output;
    u32 total;
    u32 inputs;
    u32 outputs;
};
static_assert(sizeof(LinearDgradArgs) == 40 && __builtin_offsetof(LinearDgradArgs, outputs) == 32, "");

struct LinearWgradArgs {
    const float* input;
    const float* gradient;
    float* weight_gradient;
    float* bias_gradient;
    u32 total;
    u32 images;
    u32 inputs;
    u32 outputs;
};
static_assert(sizeof(LinearWgradArgs) == 48 && __builtin_offsetof(LinearWgradArgs, outputs) == 44, "");

struct CrossEntropyArgs {
    const float* logits;
    const u32* labels;
    const float* teacher;
    float* loss;
    float* gradient;
    u32 images;
    u32 classes;
    float divisor;
    const Run* run;
};
static_assert(sizeof(CrossEntropyArgs) == 64 && __builtin_offsetof(CrossEntropyArgs, run) == 56, "");

struct CosineArgs {
    const float* logits;
    const float* reference;
    float* score;
    u32 images;
    u32 classes;
};
static_assert(sizeof(CosineArgs) == 32 && __builtin_offsetof(CosineArgs, classes) == 28, "");

struct ClassifierForwardArgs {
    const float* input;
    const float* weight;
    const float* bias;
    float* features;
    float* logits;
    u32 pixels;
    u32 channels;
    u32 classes;
    const float* reference;
    float* score;
};
static_assert(sizeof(ClassifierForwardArgs) == 72 && __builtin_offsetof(ClassifierForwardArgs, score) == 64, "");

struct ClassifierLossArgs {
    const float* input;
    const float* weight;
    const float* bias;
    float* features;
    float* logits;
    u32 pixels;
    u32 channels;
    u32 classes;
    const u32* labels;
    const float* teacher;
    float* loss;
    float* gradient;
    float* back;
    float* output;
    bf16* next;
    float divisor;
    const Run* run;
};
static_assert(sizeof(ClassifierLossArgs) == 128 && __builtin_offsetof(ClassifierLossArgs, run) == 120, "");

struct LoadImagesArgs {
    const u8* images;
    const u32* indices;
    float* output;
    u32 set;
    u32 height;
    u32 width;
    u32 from;
    u32 channels;
    u32 pad;
    u32 flip;
    const Run* run;
};
static_assert(sizeof(LoadImagesArgs) == 64 && __builtin_offsetof(LoadImagesArgs, run) == 56, "");

struct RandomErasingArgs {
    const u32* indices;
    float* images;
    u32 height;
    u32 width;
    u32 channels;
    const Run* run;
};
static_assert(sizeof(RandomErasingArgs) == 40 && __builtin_offsetof(RandomErasingArgs, run) == 32, "");

struct PgdStartArgs {
    const float* clean;
    const u32* indices;
    const float* epsilons;
    float* adversarial;
    u32 elements;
    u32 l2;
    const Run* run;
};
static_assert(sizeof(PgdStartArgs) == 48 && __builtin_offsetof(PgdStartArgs, run) == 40, "");

struct PgdStepArgs {
    const float* clean;
    const float* gradient;
    const float* epsilons;
    const float* alphas;
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
    float* velocity;
    float* average;
    const Segment* parts;
    u32 count;
    u32 trainable;
    const Run* run;
};
static_assert(sizeof(SgdWithFiltersArgs) == 56 && __builtin_offsetof(SgdWithFiltersArgs, run) == 48, "");

struct AdamArgs {
    float* weights;
    const float* gradients;
    float* first;
    float* second;
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
