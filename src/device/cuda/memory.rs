//! A session's memory on the device: regions, filters, working buffers, images.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError, sys};

use super::plan::{Buffer, ImageSetSize, Workspace};
use super::probe::describe;
use super::scalars::RunScalars;
use crate::data::ImageSet;
use crate::device::{BatchSlice, ImageSlot, MemoryLayout, Region, Span};
use crate::error::{Error, Result};

/// Everything a session has on the device.
pub(super) struct CudaMemory {
    pub stream: Arc<CudaStream>,
    regions: [CudaSlice<f32>; 7],
    layout: MemoryLayout,
    filters: Vec<CudaSlice<f32>>,
    filter_elements: usize,
    buffers: Buffers,
    scalars: CudaSlice<u32>,
    workspace: Workspace,
    pixels: Vec<Option<CudaSlice<u8>>>,
    /// Of all of it.
    pub addresses: Addresses,
}

/// The buffers of a [`Workspace`].
struct Buffers {
    operands: Vec<CudaSlice<f32>>,
    partials: CudaSlice<f32>,
    table: CudaSlice<f32>,
}

/// A resident image set.
pub(super) struct ResidentImages {
    /// Held, so that its pixels' address names it.
    pub set: ImageSet,
    pixels: u64,
}

/// Where everything begins on the device.
pub(super) struct Addresses {
    regions: [u64; 7],
    filters: Vec<u64>,
    operands: Vec<u64>,
    partials: u64,
    table: u64,
    scalars: u64,
    pub images: Vec<Option<ResidentImages>>,
}

impl Addresses {
    /// Where a buffer of a launch begins for a slice of a batch.
    ///
    /// # Errors
    /// It isn't there.
    pub fn address(&self, buffer: Buffer, slice: BatchSlice) -> std::result::Result<u64, String> {
        let found = match buffer {
            Buffer::Span(Span { region, offset, len }) => {
                let row = if region == Region::Staging { slice.first * len } else { 0 };
                Some(self.regions[region as usize] + ((offset + row) * size_of::<f32>()) as u64)
            }
            Buffer::Operand(number) => self.operands.get(number).copied(),
            Buffer::Partials => Some(self.partials),
            Buffer::Filter(filter) => self.filters.get(filter.0).copied(),
            Buffer::Images(slot) => self.images(slot).map(|images| images.pixels),
            Buffer::Scalars => Some(self.scalars),
            Buffer::UpdateTable => Some(self.table),
        };
        found.ok_or_else(|| format!("there is no {buffer}"))
    }

    /// Where a filter is; null where it isn't.
    pub fn filter(&self, number: usize) -> u64 {
        self.filters.get(number).copied().unwrap_or(0)
    }

    fn images(&self, slot: ImageSlot) -> Option<&ResidentImages> {
        self.images.get(slot.0)?.as_ref()
    }

    /// A size of an image set.
    ///
    /// # Errors
    /// It isn't attached.
    pub fn image_set(&self, size: ImageSetSize) -> std::result::Result<u32, String> {
        let (ImageSetSize::Images(slot) | ImageSetSize::Channels(slot)) = size;
        let images = self.images(slot).ok_or_else(|| format!("no images attached as {}", slot.0))?;
        Ok(match size {
            ImageSetSize::Images(_) => images.set.len() as u32,
            ImageSetSize::Channels(_) => images.set.channels as u32,
        })
    }
}

/// `len` zeros, or one where that is none: the driver allocates nothing empty.
fn zeroed(stream: &Arc<CudaStream>, len: usize) -> std::result::Result<CudaSlice<f32>, DriverError> {
    stream.alloc_zeros(len.max(1))
}

/// `len` elements that hold anything; one where that is none.
fn unwritten(stream: &Arc<CudaStream>, len: usize) -> std::result::Result<CudaSlice<f32>, DriverError> {
    // SAFETY: any bits are an f32. Kernels write working memory before they read it, which an emulator
    // can only check if nothing else has written it.
    unsafe { stream.alloc(len.max(1)) }
}

fn address<T>(stream: &CudaStream, slice: &CudaSlice<T>) -> u64 {
    // The guard that comes with it orders other streams' use of the slice; there is one stream.
    slice.device_ptr(stream).0
}

/// What to say where memory was free when the run was planned and isn't now.
const TAKEN: &str = "if the run fitted when it was planned, another program has taken some since";

fn fail(what: &str, error: DriverError) -> Error {
    let cause = format!("{what}: {}", describe(error));
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::run(format!("{cause}: {TAKEN}")),
        _ => Error::run(cause),
    }
}

impl CudaMemory {
    /// Every region, zeroed.
    ///
    /// # Errors
    /// The device has less memory free, and how much; nothing is allocated then.
    pub fn new(stream: &Arc<CudaStream>, layout: &MemoryLayout) -> Result<Self> {
        enough(stream, layout.bytes())?;
        let mut regions = Vec::new();
        for region in Region::ALL {
            let slice = zeroed(stream, layout.len(region));
            regions.push(slice.map_err(|error| fail("allocating device memory", error))?);
        }
        let regions: [_; 7] =
            regions.try_into().map_err(|_| Error::run("device memory has seven regions"))?;
        let buffers = Buffers::new(stream, &Workspace::default())?;
        let scalars = stream.alloc_zeros(RunScalars::WORDS);
        let scalars = scalars.map_err(|error| fail("allocating device memory", error))?;
        let addresses = Addresses {
            regions: regions.each_ref().map(|slice| address(stream, slice)),
            filters: Vec::new(),
            operands: Vec::new(),
            partials: 0,
            table: 0,
            scalars: address(stream, &scalars),
            images: Vec::new(),
        };
        Ok(Self {
            stream: Arc::clone(stream),
            regions,
            layout: *layout,
            filters: Vec::new(),
            filter_elements: 0,
            buffers,
            scalars,
            workspace: Workspace::default(),
            pixels: Vec::new(),
            addresses,
        })
    }

    /// Another filter of `len` elements.
    ///
    /// # Errors
    /// The device has no room.
    pub fn add_filter(&mut self, len: usize) -> Result<()> {
        enough(&self.stream, len * size_of::<f32>())?;
        let slice = zeroed(&self.stream, len).map_err(|error| fail("allocating a filter", error))?;
        self.addresses.filters.push(address(&self.stream, &slice));
        self.filters.push(slice);
        self.filter_elements += len;
        Ok(())
    }

    /// Makes the working buffers at least as large as `needed`.
    ///
    /// # Errors
    /// The device has no room.
    pub fn reserve(&mut self, needed: Workspace) -> Result<()> {
        let wanted = needed.with(&self.workspace);
        if wanted != self.workspace {
            // The old ones go first: their memory counts.
            self.set_buffers(Workspace::default())?;
            enough(&self.stream, wanted.elements() * size_of::<f32>())?;
            self.set_buffers(wanted)?;
        }
        Ok(())
    }

    fn set_buffers(&mut self, workspace: Workspace) -> Result<()> {
        self.buffers = Buffers::new(&self.stream, &workspace)?;
        let Buffers { operands, partials, table } = &self.buffers;
        self.addresses.operands = operands.iter().map(|slice| address(&self.stream, slice)).collect();
        self.addresses.partials = address(&self.stream, partials);
        self.addresses.table = address(&self.stream, table);
        self.workspace = workspace;
        Ok(())
    }

    /// Makes a set's pixels resident; does nothing where they are.
    ///
    /// # Errors
    /// The device has no room, or fails.
    pub fn attach(&mut self, slot: usize, set: &ImageSet) -> Result<()> {
        let images = &mut self.addresses.images;
        if images.len() <= slot {
            images.resize_with(slot + 1, || None);
            self.pixels.resize_with(slot + 1, || None);
        }
        let pixels = match (images[slot].take(), self.pixels[slot].take()) {
            (Some(old), Some(pixels)) if Arc::ptr_eq(&old.set.pixels, &set.pixels) => pixels,
            old => {
                drop(old);
                enough(&self.stream, set.pixels.len())?;
                self.upload(set).map_err(|error| fail("copying images to the device", error))?
            }
        };
        let at = address(&self.stream, &pixels);
        self.addresses.images[slot] = Some(ResidentImages { set: set.clone(), pixels: at });
        self.pixels[slot] = Some(pixels);
        Ok(())
    }

    fn upload(&self, set: &ImageSet) -> std::result::Result<CudaSlice<u8>, DriverError> {
        if set.pixels.is_empty() {
            return self.stream.alloc_zeros(1);
        }
        self.stream.clone_htod(set.pixels.as_slice())
    }

    /// Makes these the scalars of the next run. The last one has ended.
    ///
    /// # Errors
    /// The device fails.
    pub fn set_scalars(&mut self, scalars: &RunScalars) -> Result<()> {
        let copied = self.stream.memcpy_htod(bytemuck::cast_slice(&[*scalars]), &mut self.scalars);
        copied.map_err(|error| fail("writing the scalars of a run", error))
    }

    /// Writes the table of a training step's update, for which there is room.
    ///
    /// # Errors
    /// The device fails.
    pub fn set_table(&mut self, table: &[u32]) -> Result<()> {
        if table.is_empty() {
            return Ok(());
        }
        let mut view = self.buffers.table.slice_mut(..table.len());
        let copied = self.stream.memcpy_htod(bytemuck::cast_slice::<u32, f32>(table), &mut view);
        copied
            .and_then(|()| self.stream.synchronize())
            .map_err(|error| fail("writing the table of filters", error))
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
        let slice = &mut self.regions[region as usize];
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
        let view = self.regions[region as usize].slice(offset..offset + values.len());
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

    /// Bytes held, image sets apart, as the device's `needs` estimates them.
    pub fn bytes(&self) -> usize {
        self.layout.bytes() + (self.filter_elements + self.workspace.elements()) * size_of::<f32>()
    }
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, workspace: &Workspace) -> Result<Self> {
        let buffer = |len| unwritten(stream, len).map_err(|error| fail("allocating working memory", error));
        let operands = workspace.operands.iter().map(|&len| buffer(len)).collect::<Result<_>>()?;
        Ok(Self { operands, partials: buffer(workspace.partials)?, table: buffer(workspace.table)? })
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
        "needs {:.1} MiB of device memory, {:.1} MiB are free: {TAKEN}",
        mebibytes(bytes),
        mebibytes(free)
    )))
}
