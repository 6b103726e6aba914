//! Sizes of the ops that slide a window over an image.

/// Places of a window of `kernel` pixels on a side of `size`, with a border of `pad` at both ends.
fn windows(size: usize, kernel: usize, stride: usize, pad: usize) -> usize {
    (size + 2 * pad - kernel) / stride + 1
}

/// A convolution for one image, square kernel, symmetric zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Input channels (C).
    pub in_channels: usize,
    /// Output channels (K).
    pub out_channels: usize,
    /// Kernel rows and columns (R = S).
    pub kernel: usize,
    /// Step between output pixels.
    pub stride: usize,
    /// Zeros on each border.
    pub pad: usize,
}

impl ConvShape {
    /// Whether it has an output at all.
    pub fn possible(&self) -> bool {
        let border = 2 * self.pad;
        self.in_channels > 0
            && self.out_channels > 0
            && self.kernel > 0
            && self.stride > 0
            && self.height + border >= self.kernel
            && self.width + border >= self.kernel
    }
    /// Output rows.
    pub fn out_height(&self) -> usize {
        windows(self.height, self.kernel, self.stride, self.pad)
    }
    /// Output columns.
    pub fn out_width(&self) -> usize {
        windows(self.width, self.kernel, self.stride, self.pad)
    }
    /// Elements of one input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.in_channels
    }
    /// Elements of one output image.
    pub fn output_len(&self) -> usize {
        self.out_height() * self.out_width() * self.out_channels
    }
    /// Elements of the filter.
    pub fn filter_len(&self) -> usize {
        self.out_channels * self.kernel * self.kernel * self.in_channels
    }
    /// Multiply-adds of fprop (equally of dgrad and of wgrad) for one image.
    pub fn multiply_adds(&self) -> usize {
        self.out_height() * self.out_width() * self.filter_len()
    }
}

/// Pooling of one image over square windows. The border is no part of any window; a window begins at
/// most half its size outside, so none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Rows and columns of a window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Border on each side.
    pub pad: usize,
}

impl PoolShape {
    /// Stands for a window whose maximum a ReLU stops: no gradient goes back through it.
    pub const NO_ARGMAX: u8 = 255;

    /// Output rows.
    pub fn out_height(&self) -> usize {
        windows(self.height, self.kernel, self.stride, self.pad)
    }
    /// Output columns.
    pub fn out_width(&self) -> usize {
        windows(self.width, self.kernel, self.stride, self.pad)
    }
    /// Elements of one input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// Elements of one output image.
    pub fn output_len(&self) -> usize {
        self.out_height() * self.out_width() * self.channels
    }
    /// Words of an output pixel's argmax: a byte for each channel, from the lowest, which says where in
    /// its window the first maximum was (row × kernel + column). What is left of the last word is 0.
    pub fn pixel_words(&self) -> usize {
        self.channels.div_ceil(4)
    }
    /// Words of an image's argmax.
    pub fn argmax_words(&self) -> usize {
        self.out_height() * self.out_width() * self.pixel_words()
    }
    /// Whether every window has a pixel, and a pixel's number in it fits a byte.
    pub fn possible(&self) -> bool {
        let border = 2 * self.pad;
        self.channels > 0
            && (1..=15).contains(&self.kernel)
            && self.stride > 0
            && border <= self.kernel
            && self.height + border >= self.kernel
            && self.width + border >= self.kernel
            && self.height > 0
            && self.width > 0
    }
}
