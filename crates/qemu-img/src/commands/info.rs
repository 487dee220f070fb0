//! `qemu-img info`: what an image says about itself.
//!
//! Opens the named file and nothing else: neither backing nor data files, unless `--backing-chain` asks for the former.

use std::collections::HashSet;

use qemu_block::error::BlockError;
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::types::OpenFlags;

use super::Command;
use crate::cli::common::{ImageArg, OutputFormat, one_filename};
use crate::cli::getopt::{Flag, Parser};
use crate::cli::manual::docs;
use crate::cli::program;
use crate::cli::shared::{Shared, SharedArgs};
use crate::failure::{CommandResult, Failure, Outcome};
use crate::output::image_info::ImageInfo;
use crate::output::json::Json;
use crate::output::messages;
use crate::session::Session;
use crate::settings;
use crate::strict::{Asked, Needs, Safety, Strict};

/// The command.
pub(crate) const COMMAND: Command = Command {
    name: "info",
    summary: "Shows what an image says about itself: format, sizes, backing file, snapshots.",
    synopsis: "[--object OBJDEF] [--image-opts | -f FMT] [--output human|json] [--backing-chain] [-U] FILENAME",
    options: || docs(FLAGS),
    operands: &[("FILENAME", "the image")],
    notes: "",
    run,
};

/// Longer chains are refused: each image costs an open file, and nobody has them on purpose.
const CHAIN_LEN_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    BackingChain,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::shared(Shared::Help),
    Flag::shared(Shared::Format),
    Flag::shared(Shared::Output),
    Flag::switch(Id::BackingChain, Some('b'), &["backing-chain"])
        .doc("go on with the backing file, its backing file, and so on"),
    Flag::shared(Shared::Object),
    Flag::shared(Shared::ImageOpts),
    Flag::shared(Shared::ForceShare),
];

#[derive(Debug, Default)]
struct Arguments {
    shared: SharedArgs,
    chain: bool,
}

/// The arguments; none when the user asks for help.
fn parse(words: Vec<String>) -> Result<Option<Arguments>, Failure> {
    let mut parser = Parser::new(COMMAND.name, FLAGS, words);
    let mut arguments = Arguments::default();
    while let Some(given) = parser.next()? {
        match given.id {
            Id::BackingChain => arguments.chain = true,
        }
    }
    let Some((shared, operands)) = parser.finish() else { return Ok(None) };
    arguments.shared = shared;
    arguments.shared.image.name = one_filename(COMMAND.name, operands)?;
    arguments.shared.image.check_exclusive("--format")?;
    Ok(Some(arguments))
}

fn run(words: Vec<String>) -> CommandResult {
    let Some(arguments) = parse(words)? else { return program::print(&COMMAND.help()) };
    Needs::of(COMMAND.name).reads(&arguments.shared.image).confine()?;
    let session = Session::new()?.with_objects(&arguments.shared.objects);
    let chain = session.block_on(collect(&session, &arguments))?;
    messages::print(&match arguments.shared.output {
        OutputFormat::Human => chain.iter().map(|seen| seen.info.to_human()).collect::<Vec<_>>().join("\n"),
        OutputFormat::Json if arguments.chain => Json::List(chain.iter().map(Seen::to_json).collect()).pretty(),
        OutputFormat::Json => chain.iter().map(|seen| seen.to_json().pretty()).collect(),
    })?;
    Ok(Outcome::Success)
}

/// What was seen of an image.
#[derive(Debug)]
struct Seen {
    info: ImageInfo,
    /// With `--strict`.
    safety: Option<Safety>,
}

impl Seen {
    fn to_json(&self) -> Json {
        let mut json = self.info.to_json();
        if let (Json::Object(members), Some(safety)) = (&mut json, &self.safety) {
            members.push(("safety", safety.to_json()));
        }
        json
    }
}

/// Looks at the image and, if asked to, at those below it, one after the other.
async fn collect(session: &Session, arguments: &Arguments) -> Result<Vec<Seen>, Failure> {
    let strict = settings::strict(Strict::clone);
    let policy = strict.policy()?;
    let mut chain = Vec::new();
    let mut names = HashSet::new();
    let mut next = Some(arguments.shared.image.clone());
    while let Some(image) = next {
        if !names.insert(image.name.clone()) {
            return Err(Failure::new(format!("Backing file '{}' creates an infinite loop.", image.name)));
        }
        if chain.len() == CHAIN_LEN_MAX {
            return Err(Failure::new(format!("The backing chain has more than {CHAIN_LEN_MAX} images")));
        }
        let format = image.format.as_deref();
        let asked = strict.confined.map(|confined| Asked { name: &image.name, format, policy: &policy, confined });
        let flags = OpenFlags::NO_BACKING | OpenFlags::NO_IO;
        // Whoever asks for the chain asks to follow it; a policy still decides about what the images name.
        let opened = match chain.is_empty() {
            true => session.open_image(&image, flags).await,
            false => session.open_backing(&image, flags).await,
        };
        let node = match (opened, asked) {
            (Ok(node), _) => node,
            (Err(failure), Some(asked)) if chain.is_empty() && arguments.shared.output == OutputFormat::Json => {
                tell_safety(session, asked, &image).await?;
                return Err(failure);
            }
            (Err(failure), _) => return Err(failure),
        };
        let seen = look_at(&image, &node, asked).await?;
        next = next_in_chain(&image, &seen.info).filter(|_| arguments.chain);
        chain.push(seen);
    }
    Ok(chain)
}

/// Prints what can be told of an image that cannot be opened: programs that judge images want to know why.
async fn tell_safety(session: &Session, asked: Asked<'_>, image: &ImageArg) -> Result<(), Failure> {
    if image.image_opts {
        return Ok(());
    }
    let flags = OpenFlags::FORCE_SHARE;
    // What is not there, or not allowed, is told by the failure itself.
    let Ok(storage) = session.context().open_protocol(&image.name, Options::new(), flags).await else { return Ok(()) };
    let safety = Safety::of_storage(asked, None, &storage).await;
    // Nothing was written, so that closing cannot lose anything.
    drop(storage.close().await);
    let Ok(safety) = safety else { return Ok(()) };
    let members = vec![("filename", Json::text(&image.name)), ("safety", safety.to_json())];
    messages::print(&Json::Object(members).pretty())
}

async fn look_at(image: &ImageArg, node: &Node, asked: Option<Asked<'_>>) -> Result<Seen, Failure> {
    let seen = async {
        let safety = match asked {
            Some(asked) => Some(Safety::of_image(asked, node).await?),
            None => None,
        };
        Ok(Seen { info: ImageInfo::gather(node).await?, safety })
    };
    let seen = seen.await;
    let closed = node.close().await;
    let seen = seen.map_err(|error: BlockError| Failure::block(format!("Could not read '{}'", image.name), &error))?;
    closed.map_err(|error| Failure::block(format!("Could not close '{}'", image.name), &error))?;
    Ok(seen)
}

/// The backing file as an image to open. Whatever the image names is a plain name, never a list of options.
fn next_in_chain(image: &ImageArg, info: &ImageInfo) -> Option<ImageArg> {
    let facts = info.driver_info();
    let name = facts.full_backing_filename.clone()?;
    let force_share = image.force_share;
    Some(ImageArg { name, format: facts.backing_format.clone(), force_share, ..ImageArg::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Option<Arguments>, Failure> {
        parse(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// nova: `info PATH --force-share --output=json -f qcow2`.
    #[test]
    fn options_follow_the_name() {
        let words = ["disk", "--force-share", "--output=json", "-f", "qcow2"];
        let arguments = parse_words(&words).expect("valid").expect("no help");
        assert_eq!(arguments.shared.output, OutputFormat::Json);
        assert_eq!(
            (arguments.shared.image.name.as_str(), arguments.shared.image.format.as_deref()),
            ("disk", Some("qcow2"))
        );
        assert!(arguments.shared.image.force_share && !arguments.chain);
    }

    #[test]
    fn mistakes_are_named() {
        for (words, text) in [
            (&["a", "b"][..], "qemu-img: Expecting one image file name\nTry 'qemu-img info --help' for more info"),
            (&["--image-opts", "-f", "raw", "a"], "qemu-img: --image-opts and --format are mutually exclusive"),
            (
                &["--output=x"],
                "qemu-img: --output expects 'human' or 'json' not 'x'\nTry 'qemu-img info --help' for more info",
            ),
        ] {
            let complaint = parse_words(words).expect_err("accepted").into_text();
            assert_eq!(complaint, text);
        }
        assert!(parse_words(&["--help", "-Z"]).expect("the help comes first").is_none());
    }
}
