//! Creating raw images: that is creating a file. QEMU: `raw_co_create_opts` (block/raw-format.c).

use qemu_block::driver::CreateRequest;
use qemu_block::error::Result;
use qemu_block::options::{CreateOption, OptionKind};

/// What the format itself adds to the options of the protocol, which are those that matter: `preallocation`, `nocow`.
pub(crate) static CREATE_OPTIONS: [CreateOption; 1] =
    [CreateOption { name: "size", help: "Virtual disk size", kind: OptionKind::Size, default: None }];

/// Has the protocol create a file with all the options, its own among them.
pub(crate) async fn create(request: CreateRequest) -> Result<()> {
    request.context.create_storage(&request.filename, request.options).await
}
