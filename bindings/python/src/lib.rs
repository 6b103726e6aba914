//! pbe for Python. pbe.pyi says what each call does; this file hands it to the facade, without the GIL.

use std::path::PathBuf;

use numpy::ndarray::arr0;
use numpy::{
    AllowTypeChange, IntoPyArray, PyArray1, PyArray2, PyArray4, PyArrayLikeDyn, PyArrayMethods,
    PyReadonlyArray4, PyUntypedArrayMethods,
};
use pbe::defense::Phase;
use pbe::{Error, ImageSet, Observer, Options, Tensor, Verdict};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// A classifier.
#[pyclass(module = "pbe")]
struct Model(pbe::Model);

/// Labelled images.
#[pyclass(module = "pbe", frozen)]
struct Images {
    set: ImageSet,
    /// Whether a mirrored image shows the same thing, where no option says it.
    flip: bool,
}

/// What the training images say about a model.
#[pyclass(module = "pbe", frozen, get_all)]
struct Inspection {
    verdict: &'static str,
    targets: Vec<u32>,
    p_value: f64,
    suspects: Py<PyArray1<u32>>,
    deviation: Py<PyArray1<f32>>,
}

fn raised(error: Error) -> PyErr {
    match error.exit_code() {
        2 => PyValueError::new_err(error.to_string()),
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

fn options(given: Option<&Bound<PyDict>>, flip: bool) -> PyResult<Options> {
    let mut options = Options { flip, ..Options::default() };
    for (name, value) in given.into_iter().flatten() {
        let name: String = name.extract()?;
        let wrong = |cause: String| PyValueError::new_err(format!("{name}={value}: {cause}"));
        match name.as_str() {
            "device" => options.device = value.extract::<String>()?.parse().map_err(wrong)?,
            "precision" => options.precision = Some(value.extract::<String>()?.parse().map_err(wrong)?),
            "threads" => options.threads = value.extract()?,
            "seed" => options.seed = value.extract()?,
            "flip" => options.flip = value.extract()?,
            "clean" => options.clean = value.extract()?,
            "settings" => options.settings = value.extract()?,
            _ => return Err(PyTypeError::new_err(format!("unexpected keyword argument '{name}'"))),
        }
    }
    Ok(options)
}

/// A model from the arrays of a state dict.
fn from_arrays(arrays: &Bound<PyDict>) -> PyResult<pbe::Model> {
    let mut owned: Vec<(String, Vec<usize>, Vec<f32>)> = vec![];
    for (name, array) in arrays {
        let array: PyArrayLikeDyn<f32, AllowTypeChange> = array.extract()?;
        owned.push((name.extract()?, array.shape().to_vec(), array.as_array().iter().copied().collect()));
    }
    let tensors = owned.iter().map(|(name, shape, values)| Tensor { name, shape, values });
    pbe::Model::from_tensors(&tensors.collect::<Vec<_>>()).map_err(raised)
}

#[pymethods]
impl Model {
    #[getter]
    fn network(&self) -> &'static str {
        self.0.weights().architecture.network.name()
    }

    #[getter]
    fn classes(&self) -> usize {
        self.0.weights().architecture.classes
    }

    #[getter]
    fn normalisation(&self) -> Option<String> {
        self.0.weights().normalisation.as_ref().map(ToString::to_string)
    }

    #[pyo3(signature = (images, **given))]
    fn fit(&mut self, py: Python, images: &Images, given: Option<&Bound<PyDict>>) -> PyResult<()> {
        let options = options(given, images.flip)?;
        let model = &mut self.0;
        py.detach(|| model.fit(&images.set, &options)).map_err(raised)
    }

    /// With the counts of batches, on which PyTorch's `strict` may insist: nothing reads them.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for Tensor { name, shape, values } in self.0.tensors() {
            dict.set_item(name, PyArray1::from_slice(py, values).reshape(shape)?)?;
            if let Some(norm) = name.strip_suffix("running_var") {
                dict.set_item(format!("{norm}num_batches_tracked"), arr0(0i64).into_pyarray(py))?;
            }
        }
        Ok(dict)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.to_bytes().map_err(raised)?))
    }

    fn save(&self, path: PathBuf) -> PyResult<()> {
        self.0.save(path).map_err(raised)
    }
}

#[pymethods]
impl Images {
    #[new]
    fn new(pixels: PyReadonlyArray4<u8>, labels: Vec<u32>, classes: usize) -> PyResult<Self> {
        let &[count, height, width, channels] = pixels.shape() else { return Err(PyTypeError::new_err("")) };
        if count != labels.len() {
            return Err(PyValueError::new_err(format!("{count} images, but {} labels", labels.len())));
        }
        let pixels = pixels.as_array().iter().copied().collect();
        let set = ImageSet::new(pixels, labels, (height, width, channels), classes).map_err(raised)?;
        Ok(Self { set, flip: true })
    }

    fn __len__(&self) -> usize {
        self.set.len()
    }

    #[getter]
    fn pixels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray4<u8>>> {
        let ImageSet { height, width, channels, .. } = self.set;
        PyArray1::from_slice(py, &self.set.pixels).reshape([self.set.len(), height, width, channels])
    }

    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, &self.set.labels)
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.set.classes.to_vec()
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.set.names.to_vec()
    }
}

/// Passes progress on to Python, and its exceptions back; Ctrl-C is one.
struct Progress {
    callback: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Observer for Progress {
    fn progress(
        &mut self,
        round: usize,
        phase: Phase,
        done: usize,
        total: usize,
        loss: Option<f32>,
    ) -> pbe::Result<()> {
        let called = Python::attach(|py| {
            py.check_signals()?;
            match &self.callback {
                Some(callback) => callback.call1(py, (round, phase.label, done, total, loss)).map(drop),
                None => Ok(()),
            }
        });
        called.map_err(|exception| {
            self.raised = Some(exception);
            Error::Interrupted("an exception in Python".into())
        })
    }
}

#[pymodule(name = "pbe")]
mod module {
    use super::*;

    #[pymodule_export]
    use super::{Images, Inspection, Model};

    #[pyfunction]
    #[pyo3(signature = (source, normalisation=None))]
    fn load_model(source: &Bound<PyAny>, normalisation: Option<&str>) -> PyResult<Model> {
        let mut model = if let Ok(arrays) = source.cast::<PyDict>() {
            from_arrays(arrays)?
        } else if let Ok(bytes) = source.cast::<PyBytes>() {
            pbe::Model::from_bytes(bytes.as_bytes()).map_err(raised)?
        } else {
            pbe::load_model(source.extract::<PathBuf>()?).map_err(raised)?
        };
        if let Some(text) = normalisation {
            model.set_normalisation(text).map_err(raised)?;
        }
        Ok(Model(model))
    }

    #[pyfunction]
    #[pyo3(signature = (path, model, **given))]
    fn load_data(
        py: Python,
        path: PathBuf,
        model: &mut Model,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<(Images, Option<Images>)> {
        let options = options(given, true)?;
        let model = &mut model.0;
        let set = py.detach(|| pbe::load_data(path, model, &options)).map_err(raised)?;
        let flip = set.allows_flip();
        Ok((Images { set: set.train, flip }, set.test.map(|set| Images { set, flip })))
    }

    #[pyfunction]
    #[pyo3(signature = (model, images, **given))]
    fn predict<'py>(
        py: Python<'py>,
        model: &Model,
        images: &Images,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let options = options(given, images.flip)?;
        let classes = py.detach(|| pbe::predict(&model.0, &images.set, &options)).map_err(raised)?;
        Ok(classes.into_pyarray(py))
    }

    #[pyfunction]
    #[pyo3(signature = (model, images, **given))]
    fn logits<'py>(
        py: Python<'py>,
        model: &Model,
        images: &Images,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let options = options(given, images.flip)?;
        let logits = py.detach(|| pbe::logits(&model.0, &images.set, &options)).map_err(raised)?;
        logits.into_pyarray(py).reshape([images.set.len(), model.classes()])
    }

    #[pyfunction]
    #[pyo3(signature = (infected, purified, images, **given))]
    fn score<'py>(
        py: Python<'py>,
        infected: &Model,
        purified: &Model,
        images: &Images,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let options = options(given, images.flip)?;
        let score = || pbe::score(&infected.0, &purified.0, &images.set, &options);
        Ok(py.detach(score).map_err(raised)?.into_pyarray(py))
    }

    #[pyfunction]
    #[pyo3(signature = (model, images, epsilon, **given))]
    fn attack(
        py: Python,
        model: &Model,
        images: &Images,
        epsilon: f32,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Images> {
        let options = options(given, images.flip)?;
        let set = py.detach(|| pbe::attack(&model.0, &images.set, epsilon, &options)).map_err(raised)?;
        Ok(Images { set, flip: images.flip })
    }

    #[pyfunction]
    #[pyo3(signature = (model, images, **given))]
    fn inspect(
        py: Python,
        model: &Model,
        images: &Images,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Inspection> {
        let options = options(given, images.flip)?;
        let inspect = || pbe::inspect(&model.0, &images.set, &options);
        let (detection, found) = py.detach(inspect).map_err(raised)?;
        Ok(Inspection {
            verdict: match detection.verdict {
                Verdict::Infected => "infected",
                Verdict::NoSign => "no_sign",
                Verdict::Undecided => "undecided",
            },
            targets: detection.targets,
            p_value: detection.p_value,
            suspects: found.images.into_pyarray(py).unbind(),
            deviation: found.deviation.into_pyarray(py).unbind(),
        })
    }

    #[pyfunction]
    #[pyo3(signature = (model, images, *, progress=None, **given))]
    fn purify(
        py: Python,
        model: &Model,
        images: &Images,
        progress: Option<Py<PyAny>>,
        given: Option<&Bound<PyDict>>,
    ) -> PyResult<Model> {
        let options = options(given, images.flip)?;
        let mut observer = Progress { callback: progress, raised: None };
        let purified = py.detach(|| pbe::purify(&model.0, &images.set, &options, &mut observer));
        purified.map(Model).map_err(|error| observer.raised.unwrap_or_else(|| raised(error)))
    }
}
