//! The core's face towards Python: the only room that knows of it.
mod channel;
mod engine;
mod messages;
mod outcomes;

use self::channel::{Call, Channel};
use self::engine::Core;
use self::outcomes::{Applied, Export};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    for function in [
        wrap_pyfunction!(messages::discovery_request, module)?,
        wrap_pyfunction!(messages::certificate_request, module)?,
        wrap_pyfunction!(messages::certificate_chain, module)?,
        wrap_pyfunction!(messages::export_refused, module)?,
        wrap_pyfunction!(messages::zds_hello, module)?,
        wrap_pyfunction!(messages::zds_request, module)?,
        wrap_pyfunction!(messages::zds_answer, module)?,
    ] {
        module.add_function(function)?;
    }
    module.add_class::<Core>()?;
    module.add_class::<Applied>()?;
    module.add_class::<Export>()?;
    module.add_class::<Channel>()?;
    module.add_class::<Call>()
}
