// Constants of the host that the kernels are compiled against, made by
// `PBE_WRITE_ARGS=1 cargo test --lib host_header`. Do not edit.
#pragma once

namespace host {
constexpr unsigned BLOCK = 128;
constexpr unsigned VEC4 = 4;
constexpr unsigned VECTOR = 8;
constexpr unsigned NORM_CHANNELS = 32;
constexpr unsigned NORM_REDUCE_CHANNELS = 2;
constexpr unsigned PATCH_BLOCK = 512;
constexpr unsigned FEATURES = 2048;
constexpr unsigned CLASSES = 1024;
constexpr unsigned UPDATE_TILE_OUT = 16;
constexpr unsigned UPDATE_TILE_IN = 8;
constexpr unsigned UPDATE_TAPS = 49;
constexpr unsigned UPDATE_PLAIN = 1024;
constexpr unsigned SEGMENT_BYTES = 48;
constexpr unsigned SEGMENT_DGRAD = 40;
constexpr unsigned RUN_BYTES = 68;
constexpr unsigned RUN_SEED = 60;
}
