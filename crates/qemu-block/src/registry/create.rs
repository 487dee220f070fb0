//! Creating images. QEMU: `bdrv_create`, `bdrv_co_create_file` (block.c), `bdrv_img_create`'s checks.

use std::sync::Arc;

use super::OpenContext;
use crate::driver::{BlockDriver, CreateRequest};
use crate::error::{BlockError, ErrorKind, Result};
use crate::options::{CreateOption, Options};

impl OpenContext {
    /// All options that [`OpenContext::create`] takes for this format and file name: the format's, then those of the
    /// protocol that it does not hide.
    ///
    /// # Errors
    /// `InvalidArgument` for unknown names, `Unsupported` where images cannot be created.
    pub fn create_schema(&self, driver: &str, filename: Option<&str>) -> Result<Vec<CreateOption>> {
        let mut schema = self.creatable_format(driver)?.create_options().to_vec();
        if let Some(filename) = filename {
            for option in self.creatable_protocol(filename)?.create_options() {
                if !schema.iter().any(|known| known.name == option.name) {
                    schema.push(*option);
                }
            }
        }
        Ok(schema)
    }

    /// Creates an image. `options` were checked against [`OpenContext::create_schema`] by
    /// [`check_create_options`](crate::options::check_create_options); `size` must be among them.
    ///
    /// # Errors
    /// Those of the driver, with the reference's text.
    pub async fn create(&self, driver: &str, filename: &str, options: Options) -> Result<()> {
        let driver = self.creatable_format(driver)?;
        let request = CreateRequest { filename: filename.to_owned(), options, context: self.clone() };
        driver.create(request).await
    }

    /// Creates what stores an image: a file of `size` bytes. Of the options those that the protocol knows are used.
    ///
    /// # Errors
    /// `Unsupported` if the protocol cannot create, and those of its driver.
    pub async fn create_storage(&self, filename: &str, options: Options) -> Result<()> {
        let driver = self.creatable_protocol(filename)?;
        let mut known = Options::new();
        for option in driver.create_options() {
            if let Some(value) = options.get(option.name) {
                known.set(option.name, value.clone());
            }
        }
        let filename = self.protocol_path(&driver, filename);
        driver.create(CreateRequest { filename, options: known, context: self.clone() }).await
    }

    fn creatable_format(&self, name: &str) -> Result<Arc<dyn BlockDriver>> {
        let unknown = || BlockError::new(ErrorKind::InvalidArgument, format!("Unknown file format '{name}'"));
        let driver = self.registry().driver(name).ok_or_else(unknown)?;
        if driver.create_options().is_empty() {
            let message = format!("Format driver '{name}' does not support image creation");
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
        Ok(driver)
    }

    fn creatable_protocol(&self, filename: &str) -> Result<Arc<dyn BlockDriver>> {
        let driver = self.find_protocol(filename, true)?;
        if driver.create_options().is_empty() {
            let message = format!("Protocol driver '{}' does not support image creation", driver.name());
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
        Ok(driver)
    }
}
