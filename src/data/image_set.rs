//! Labelled images: u8, NHWC, shared. Cloning is cheap; pixels are never copied per use.

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use std::path::Path;
use std::sync::Arc;

/// A set of equally sized images with labels, names and class names.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// count × height × width × channels bytes.
    pub pixels: Arc<Vec<u8>>,
    /// One label per image, an index into `classes`.
    pub labels: Arc<Vec<u32>>,
    /// A name per image for reports: its file relative to the data folder, or `file#record`.
    pub names: Arc<Vec<String>>,
    /// Class names, by label.
    pub classes: Arc<Vec<String>>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl ImageSet {
    /// `count` images of noise, square and coloured where `channels` is 3, of `classes` classes in turn.
    pub fn noise(count: usize, side: usize, channels: usize, classes: usize) -> Self {
        let stream = Stream::new(0, Purpose::Synthetic, 0);
        let pixel = |i: usize| stream.words(i as u64)[0] as u8;
        let name = |i: usize| i.to_string();
        ImageSet {
            pixels: Arc::new((0..count * side * side * channels).map(pixel).collect()),
            labels: Arc::new((0..count).map(|i| (i % classes.max(1)) as u32).collect()),
            names: Arc::new((0..count).map(name).collect()),
            classes: Arc::new((0..classes).map(name).collect()),
            height: side,
            width: side,
            channels,
        }
    }
    /// Images from memory: `pixels` are count × `height` × `width` × `channels` bytes, rows first and channels last, with
    /// a label below `classes` for each image.
    ///
    /// # Errors
    /// A size of 0; channels other than 1 and 3; another number of bytes than the labels need; a label that is too large.
    pub fn new(
        pixels: Vec<u8>,
        labels: Vec<u32>,
        (height, width, channels): (usize, usize, usize),
        classes: usize,
    ) -> Result<Self> {
        let sizes = [labels.len(), height, width, channels];
        let needed = sizes.into_iter().try_fold(1usize, usize::checked_mul);
        if sizes.contains(&0) || needed != Some(pixels.len()) {
            let (images, bytes) = (labels.len(), pixels.len());
            let text = format!("{bytes} bytes are not {images} images of {height}x{width}x{channels}");
            return Err(Error::input(text));
        }
        if !matches!(channels, 1 | 3) {
            return Err(Error::input(format!("{channels} channels: images have 1 or 3")));
        }
        if let Some(image) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(Error::input(format!(
                "image {image} has the label {} of {classes} classes",
                labels[image]
            )));
        }
        let names = |count: usize| Arc::new((0..count).map(|i| i.to_string()).collect());
        let (names, classes) = (names(labels.len()), names(classes));
        Ok(Self {
            pixels: Arc::new(pixels),
            labels: Arc::new(labels),
            names,
            classes,
            height,
            width,
            channels,
        })
    }
    /// A digest of all that a network sees of the set.
    pub fn digest(&self) -> String {
        let shape = [self.height, self.width, self.channels];
        let digest = Digest::default().numbers(&shape).numbers(&self.labels).bytes(&self.pixels);
        digest.texts(&self.classes).finish()
    }
    /// Images in the set.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// The bytes of image `index`.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len()..(index + 1) * self.image_len()]
    }
    /// The images at `indices`, in that order (pixels copied once).
    pub fn subset(&self, indices: &[u32]) -> ImageSet {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index as usize));
        }
        self.subset_with_pixels(indices, pixels)
    }
    /// The images at `indices`, in that order, with other `pixels`: their labels and names.
    pub fn subset_with_pixels(&self, indices: &[u32], pixels: Vec<u8>) -> ImageSet {
        let pick = |index: &u32| *index as usize;
        ImageSet {
            pixels: Arc::new(pixels),
            labels: Arc::new(indices.iter().map(|i| self.labels[pick(i)]).collect()),
            names: Arc::new(indices.iter().map(|i| self.names[pick(i)].clone()).collect()),
            classes: Arc::clone(&self.classes),
            ..*self
        }
    }
    /// The same images with labels counted as in `classes`, matched by name: for a clean or test set
    /// in which some class is absent. `place` is where the set came from, for the error.
    ///
    /// # Errors
    /// An image's class that `classes` lacks.
    pub fn with_classes_of(&self, classes: &Arc<Vec<String>>, place: &Path) -> Result<ImageSet> {
        if *self.classes == **classes {
            return Ok(self.clone());
        }
        let map: Vec<Option<u32>> = self
            .classes
            .iter()
            .map(|class| classes.iter().position(|other| other == class).map(|label| label as u32))
            .collect();
        let relabel = |&label: &u32| {
            map[label as usize].ok_or_else(|| {
                let class = &self.classes[label as usize];
                Error::file(place, format!("class `{class}` is not among the {} of the data", classes.len()))
            })
        };
        let labels: Result<Vec<u32>> = self.labels.iter().map(relabel).collect();
        Ok(ImageSet { classes: Arc::clone(classes), ..self.with_labels(labels?) })
    }
    /// These images, then `more`, which have the same size and classes.
    pub fn followed_by(&self, more: &ImageSet) -> ImageSet {
        debug_assert_eq!(self.image_len(), more.image_len());
        ImageSet {
            pixels: Arc::new([self.pixels.as_slice(), &more.pixels].concat()),
            labels: Arc::new([self.labels.as_slice(), &more.labels].concat()),
            names: Arc::new([self.names.as_slice(), &more.names].concat()),
            classes: Arc::clone(&self.classes),
            ..*self
        }
    }

    /// The same images under other labels.
    pub fn with_labels(&self, labels: Vec<u32>) -> ImageSet {
        ImageSet { labels: Arc::new(labels), ..self.clone() }
    }
}
