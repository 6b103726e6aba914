//! Masks and patterns of triggers: small grey or RGB images, from PNG files.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};

use crate::data::open_image;
use crate::error::{Error, Result};

/// An 8-bit grey or RGB image.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `ImageLuma8` or `ImageRgb8`, nothing else.
    image: DynamicImage,
}

/// Interpolation when a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The nearest pixel, for patches whose edge has to stay sharp.
    Nearest,
    /// Bilinear, widened when shrinking (as PIL does it), for patterns that cover the image.
    Bilinear,
}

impl Picture {
    /// A grey picture whose pixel (row, column) is `value(row, column)`.
    pub fn grey(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> Self {
        let pixel = |x: u32, y: u32| Luma([value(y as usize, x as usize)]);
        Self { image: GrayImage::from_fn(width as u32, height as u32, pixel).into() }
    }

    /// An RGB picture whose pixel (row, column) is `value(row, column)`.
    pub fn rgb(height: usize, width: usize, value: impl Fn(usize, usize) -> [u8; 3]) -> Self {
        let pixel = |x: u32, y: u32| Rgb(value(y as usize, x as usize));
        Self { image: RgbImage::from_fn(width as u32, height as u32, pixel).into() }
    }

    /// Reads a picture in any format this build decodes; transparency is dropped.
    pub fn load(path: &Path) -> Result<Self> {
        let image = open_image(path).map_err(|cause| Error::file(path, cause))?.image;
        let grey = !image.color().has_color();
        let image = if grey { image.to_luma8().into() } else { image.to_rgb8().into() };
        Ok(Self { image })
    }

    /// The picture as the bytes of a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        // `write_to` would put the encoders of all other image types into the program.
        let mut bytes = Vec::new();
        self.image
            .write_with_encoder(PngEncoder::new(&mut bytes))
            .map_err(|e| Error::run(format!("a picture can't be encoded as PNG: {e}")))?;
        Ok(bytes)
    }

    /// The picture as height × width × channels bytes (1 or 3 channels).
    ///
    /// A grey picture is repeated over three channels; a coloured one becomes its grey value
    /// (.299 R + .587 G + .114 B, rounded) where there is one.
    pub fn bytes(&self, height: usize, width: usize, channels: usize, resize: Resize) -> Vec<u8> {
        let filter = match resize {
            Resize::Nearest => FilterType::Nearest,
            Resize::Bilinear => FilterType::Triangle,
        };
        let (rows, columns) = (height as u32, width as u32);
        let sized = if (self.image.height(), self.image.width()) == (rows, columns) {
            self.image.clone()
        } else {
            self.image.resize_exact(columns, rows, filter)
        };
        match (channels, sized) {
            (1, DynamicImage::ImageLuma8(grey)) => grey.into_raw(),
            (1, coloured) => coloured.to_rgb8().pixels().map(|&Rgb(rgb)| grey_value(rgb)).collect(),
            (_, any) => any.into_rgb8().into_raw(),
        }
    }
}

/// ITU-R BT.601 luma, rounded: what PIL's `convert("L")` gives within a level.
fn grey_value([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    ((sum + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_survives_png() {
        let folder = tempfile::tempdir().unwrap();
        let rgb = Picture::rgb(5, 7, |row, column| [row as u8, column as u8, 200]);
        let grey = Picture::grey(3, 2, |row, column| (row * 2 + column) as u8);
        for (name, picture) in [("rgb.png", rgb), ("grey.png", grey)] {
            let path = folder.path().join(name);
            std::fs::write(&path, picture.to_png().unwrap()).unwrap();
            assert_eq!(Picture::load(&path).unwrap(), picture);
        }
    }

    #[test]
    fn channels_follow_the_image_set() {
        let rgb = Picture::rgb(1, 2, |_, column| if column == 0 { [255, 0, 0] } else { [10, 20, 30] });
        assert_eq!(rgb.bytes(1, 2, 1, Resize::Nearest), [76, 18]);
        assert_eq!(rgb.bytes(1, 2, 3, Resize::Nearest), [255, 0, 0, 10, 20, 30]);
        let grey = Picture::grey(1, 2, |_, column| 7 + column as u8);
        assert_eq!(grey.bytes(1, 2, 3, Resize::Nearest), [7, 7, 7, 8, 8, 8]);
    }

    #[test]
    fn nearest_keeps_a_patch_sharp_and_bilinear_does_not() {
        let half = Picture::grey(1, 2, |_, column| if column == 0 { 0 } else { 255 });
        assert_eq!(half.bytes(1, 4, 1, Resize::Nearest), [0, 0, 255, 255]);
        let smooth = half.bytes(1, 4, 1, Resize::Bilinear);
        assert!(smooth[1] > 0 && smooth[1] < smooth[2] && smooth[2] < 255, "{smooth:?}");
    }

    #[test]
    fn a_broken_or_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pattern.png");
        assert!(Picture::load(&path).unwrap_err().to_string().contains("pattern.png"));
        std::fs::write(&path, b"not a picture").unwrap();
        assert!(Picture::load(&path).unwrap_err().to_string().contains("pattern.png"));
    }
}
