//! A session's memory on the device: regions, filters, working buffers, images, and addresses in it.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, ValidAsZeroBits};

use super::availability::describe;
use super::room::Room;
use crate::data::ImageSet;
use crate::device::{Instance, MemoryLayout, Region, Span};
use crate::error::{Error, Result};

/// An allocation and its address.
pub(super) struct Block<T> {
    pub slice: CudaSlice<T>,
    pub address: u64,
}

impl<T: DeviceRepr + ValidAsZeroBits> Block<T> {
    /// `len` zeros, or one where that is none: the driver allocates nothing empty.
    fn zeroed(stream: &Arc<CudaStream>, len: usize) -> std::result::Result<Self, DriverError> {
        Ok(Self::of(stream, stream.alloc_zeros(len.max(1))?))
    }

    /// `len` elements that hold anything; one where that is none.
    fn unwritten(stream: &Arc<CudaStream>, len: usize) -> std::result::Result<Self, DriverError> {
        // SAFETY: any bits are a value of T. Kernels write working memory before they read it, which an
        // emulator can only check if nothing else has written it.
        Ok(Self::of(stream, unsafe { stream.alloc(len.max(1))? }))
    }

    fn of(stream: &Arc<CudaStream>, slice: CudaSlice<T>) -> Self {
        // The guard that comes with it orders other streams' use of the slice; there is one stream.
        let address = slice.device_ptr(stream).0;
        Self { address, slice }
    }
}

/// The buffers of [`Room`].
pub(super) struct Scratch {
    pub input: Block<f32>,
    pub gradient: Block<f32>,
    pub partials: Block<f32>,
}

/// A resident image set.
pub(super) struct Images {
    /// Held, so that its pixels' address names it.
    pub set: ImageSet,
    pub pixels: Block<u8>,
}

/// Everything a session has on the device.
pub(super) struct Memory {
    pub stream: Arc<CudaStream>,
    regions: [Block<f32>; 7],
    layout: MemoryLayout,
    pub filters: Vec<Block<f32>>,
    filter_elements: usize,
    pub scratch: Scratch,
    room: Room,
    pub images: Vec<Option<Images>>,
}

fn fail(what: &str, error: DriverError) -> Error {
    Error::run(format!("{what}: {}", describe(error)))
}

impl Memory {
    /// Every region, zeroed.
    ///
    /// # Errors
    /// The device has less memory free, and how much; nothing is allocated then.
    pub fn new(stream: &Arc<CudaStream>, layout: &MemoryLayout) -> Result<Self> {
        enough(stream, layout.bytes())?;
        let mut regions = Vec::new();
        for region in Region::ALL {
            let block = Block::zeroed(stream, layout.len(region));
            regions.push(block.map_err(|error| fail("allocating device memory", error))?);
        }
        let regions = regions.try_into().map_err(|_| Error::run("device memory has seven regions"))?;
        let scratch = Scratch::new(stream, &Room::default())?;
        Ok(Self {
            stream: Arc::clone(stream),
            regions,
            layout: *layout,
            filters: Vec::new(),
            filter_elements: 0,
            scratch,
            room: Room::default(),
            images: Vec::new(),
        })
    }

    /// Another filter of `len` elements.
    ///
    /// # Errors
    /// The device has no room.
    pub fn add_filter(&mut self, len: usize) -> Result<()> {
        enough(&self.stream, len * size_of::<f32>())?;
        let block = Block::zeroed(&self.stream, len).map_err(|error| fail("allocating a filter", error))?;
        self.filters.push(block);
        self.filter_elements += len;
        Ok(())
    }

    /// Working buffers of at least `room`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn make_room(&mut self, room: Room) -> Result<()> {
        let wanted = Room {
            input: room.input.max(self.room.input),
            gradient: room.gradient.max(self.room.gradient),
            partials: room.partials.max(self.room.partials),
        };
        if wanted != self.room {
            // The old ones go first: their memory counts.
            self.scratch = Scratch::new(&self.stream, &Room::default())?;
            self.room = Room::default();
            enough(&self.stream, wanted.elements() * size_of::<f32>())?;
            self.scratch = Scratch::new(&self.stream, &wanted)?;
            self.room = wanted;
        }
        Ok(())
    }

    /// Makes a set's pixels resident; does nothing where they are.
    ///
    /// # Errors
    /// The device has no room, or fails.
    pub fn attach(&mut self, slot: usize, set: &ImageSet) -> Result<()> {
        if self.images.len() <= slot {
            self.images.resize_with(slot + 1, || None);
        }
        let pixels = match self.images[slot].take() {
            Some(old) if Arc::ptr_eq(&old.set.pixels, &set.pixels) => old.pixels,
            old => {
                drop(old);
                enough(&self.stream, set.pixels.len())?;
                let pixels = self.upload(set).map_err(|error| fail("copying images to the device", error))?;
                Block::of(&self.stream, pixels)
            }
        };
        self.images[slot] = Some(Images { set: set.clone(), pixels });
        Ok(())
    }

    fn upload(&self, set: &ImageSet) -> std::result::Result<CudaSlice<u8>, DriverError> {
        if set.pixels.is_empty() {
            return self.stream.alloc_zeros(1);
        }
        self.stream.clone_htod(set.pixels.as_slice())
    }

    /// Copies to a region.
    ///
    /// # Errors
    /// Out of the region, or the device fails.
    pub fn write(&mut self, region: Region, offset: usize, values: &[f32]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.inside(region, offset, values.len())?;
        let slice = &mut self.regions[region as usize].slice;
        let mut view = slice.slice_mut(offset..offset + values.len());
        let copied = self.stream.memcpy_htod(values, &mut view);
        // The values are the caller's again when this returns.
        copied
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| fail(&format!("writing {region:?}"), error))
    }

    /// Copies from a region, when all that was started is done.
    ///
    /// # Errors
    /// Out of the region, or the device fails or has failed.
    pub fn read(&self, region: Region, offset: usize, values: &mut [f32]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.inside(region, offset, values.len())?;
        let view = self.regions[region as usize].slice.slice(offset..offset + values.len());
        let copied = self.stream.memcpy_dtoh(&view, values);
        copied
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| fail(&format!("reading {region:?}"), error))
    }

    fn inside(&self, region: Region, offset: usize, len: usize) -> Result<()> {
        let room = self.layout.len(region);
        match offset.checked_add(len) {
            Some(end) if end <= room => Ok(()),
            _ => Err(Error::run(format!(
                "{region:?} has no elements {offset} to {offset} + {len}, only {room}"
            ))),
        }
    }

    /// The address of what a span means for an instance of a checked program.
    pub fn address(&self, span: Span, instance: Instance) -> u64 {
        let offset = match span.region {
            Region::Staging => span.offset + instance.first * span.len,
            _ => span.offset,
        };
        self.regions[span.region as usize].address + (offset * size_of::<f32>()) as u64
    }

    /// Bytes held, image sets apart, as the device's `needs` foretells them.
    pub fn bytes(&self) -> usize {
        self.layout.bytes() + (self.filter_elements + self.room.elements()) * size_of::<f32>()
    }
}

impl Scratch {
    fn new(stream: &Arc<CudaStream>, room: &Room) -> Result<Self> {
        let block =
            |len| Block::unwritten(stream, len).map_err(|error| fail("allocating working memory", error));
        Ok(Self {
            input: block(room.input)?,
            gradient: block(room.gradient)?,
            partials: block(room.partials)?,
        })
    }
}

/// # Errors
/// Less than `bytes` are free on the device.
fn enough(stream: &CudaStream, bytes: usize) -> Result<()> {
    let (free, _) =
        stream.context().mem_get_info().map_err(|error| fail("asking for free device memory", error))?;
    if bytes <= free {
        return Ok(());
    }
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    Err(Error::run(format!(
        "needs {:.1} MiB of device memory, {:.1} MiB are free",
        mebibytes(bytes),
        mebibytes(free)
    )))
}
