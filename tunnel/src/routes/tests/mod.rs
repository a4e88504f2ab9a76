mod headers;
mod index;
mod matching;
mod resources;
mod rewrite;
