//! How a program uses the core as a library: vectors on any [`BlockDevice`](crate::device::BlockDevice), without a
//! mount.
//!
//! The examples share `vexfs_core/doc/ram.txt`: a disk in memory, formatted by
//! [`make`](crate::make::make), some constants (`NOW`, `FILE`, `ROOT_USER`, `SETTINGS` of a collection of 4 x f32)
//! and `bytes`, the little-endian elements of a vector. They are run as tests.
//!
//! # Create, store, load
//!
//! A vector belongs to a file, and to a collection that has its dimension and type. Setting it is what setting its
//! attribute is, [`Volume::set_attribute`](crate::Volume::set_attribute); it is durable after
//! [`Volume::sync`](crate::Volume::sync) or [`Volume::commit`](crate::Volume::commit).
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/ram.txt"));
//! # fn main() -> Result<()> {
//! let ram = formatted()?;
//! let mut volume = Volume::mount(Direct(&ram), MountOptions::default())?;
//! let minilm = volume.create_collection(b"minilm", &SETTINGS, NOW)?;
//! let whales = volume.create(ROOT, b"whales.txt", &FILE, NOW)?.inode;
//! let vector = bytes([1.0, 0.0, 0.5, 0.0]);
//! volume.set_attribute(whales, b"user.vector.minilm", &vector, SetMode::Any, &ROOT_USER, NOW)?;
//! volume.sync(NOW)?;
//! drop(volume);
//!
//! // Whoever mounts the device finds it: by its file, or by its row.
//! let volume = Volume::mount(Direct(&ram), MountOptions::default())?;
//! assert_eq!(volume.attribute(whales, b"user.vector.minilm")?, vector);
//! assert_eq!(volume.vector(minilm, 0)?, vector);
//!
//! // A vector of another dimension is refused.
//! let mut volume = volume;
//! let short = volume.set_attribute(whales, b"user.vector.minilm", &vector[..8], SetMode::Any, &ROOT_USER, NOW);
//! assert!(matches!(short, Err(Error::WrongLength { dimensions: 4, expected: 16, got: 8, .. })));
//! # Ok(())
//! # }
//! ```
//!
//! # The vectors of a file, the file of a vector
//!
//! Both directions are records of the tree, and are always changed together.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/ram.txt"));
//! # fn main() -> Result<()> {
//! # let ram = formatted()?;
//! # let mut volume = Volume::mount(Direct(&ram), MountOptions::default())?;
//! let minilm = volume.create_collection(b"minilm", &SETTINGS, NOW)?;
//! let book = volume.create(ROOT, b"book.txt", &FILE, NOW)?.inode;
//! for (chapter, name) in ["user.vector.minilm", "user.vector.minilm.1", "user.vector.minilm.2"].iter().enumerate() {
//!     let vector = bytes([chapter as f32, 1.0, 0.0, 0.0]);
//!     volume.set_attribute(book, name.as_bytes(), &vector, SetMode::Create, &ROOT_USER, NOW)?;
//! }
//! let mut vectors = Vec::new();
//! volume.vectors_of(book, &mut |vector| vectors.push(vector))?;
//! assert_eq!(vectors.iter().map(|vector| vector.n).collect::<Vec<_>>(), [0, 1, 2]);
//!
//! // By its id a vector is found again wherever it lies.
//! let last = vectors[2];
//! assert_eq!(volume.row_of_id(minilm, last.vector_id)?, Some(last.row));
//! let header = volume.row(minilm, last.row)?.expect("a live row").header;
//! assert_eq!(header.file_inode.get(), book.0);
//! assert_eq!(volume.path(book)?.as_deref(), Some(&b"book.txt"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # Update, remove, iterate, compact, recode
//!
//! A vector that is set again goes to another row, and the old one is free once that is durable. A row without a
//! vector is deleted; [`Volume::tidy`](crate::Volume::tidy) blanks it after the commit, and moves rows together where
//! [`Volume::compact`](crate::Volume::compact) asked for that. [`Volume::recode`](crate::Volume::recode) has it store the collection
//! in another codec.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/ram.txt"));
//! # fn main() -> Result<()> {
//! # let ram = formatted()?;
//! # let mut volume = Volume::mount(Direct(&ram), MountOptions::default())?;
//! let minilm = volume.create_collection(b"minilm", &SETTINGS, NOW)?;
//! let mut files = Vec::new();
//! for number in 0..100 {
//!     let file = volume.create(ROOT, format!("{number}").as_bytes(), &FILE, NOW)?.inode;
//!     let vector = bytes([number as f32, 1.0, 0.0, 0.0]);
//!     volume.set_attribute(file, b"user.vector.minilm", &vector, SetMode::Any, &ROOT_USER, NOW)?;
//!     files.push(file);
//! }
//! let updated = bytes([0.0, 0.0, 0.0, 1.0]);
//! volume.set_attribute(files[99], b"user.vector.minilm", &updated, SetMode::Replace, &ROOT_USER, NOW)?;
//! assert_eq!(volume.attribute(files[99], b"user.vector.minilm")?, updated);
//! for file in &files[..90] {
//!     volume.remove_attribute(*file, b"user.vector.minilm", &ROOT_USER, NOW)?;
//! }
//! assert!(volume.is_deleted(minilm, 0)? && !volume.is_deleted(minilm, 90)?);
//! assert_eq!(volume.vector(minilm, 0), Err(Error::NotFound));
//!
//! volume.compact(minilm)?;
//! for _ in 0..10 {
//!     volume.commit(NOW)?;
//!     while volume.tidy(NOW)? {}
//! }
//! let mut rows = Vec::new();
//! volume.rows_of(minilm, 0, &mut |row, record| {
//!     rows.push((row, record.header.file_inode.get()));
//!     true
//! })?;
//! assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
//! assert!(rows.iter().all(|row| files[90..].iter().any(|file| file.0 == row.1)));
//! let collection = volume.collection(minilm)?;
//! assert_eq!((collection.live, collection.rows), (10, 10));
//!
//! volume.recode(minilm, Codec::F16, NOW)?;
//! while volume.tidy(NOW)? {}
//! assert_eq!(volume.collection(minilm)?.codec, Codec::F16);
//! assert_eq!(volume.attribute(files[99], b"user.vector.minilm")?, updated);
//! # Ok(())
//! # }
//! ```
//!
//! # Many at once
//!
//! [`Volume::set_vectors`](crate::Volume::set_vectors) is one transaction, whole or not at all.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/ram.txt"));
//! # fn main() -> Result<()> {
//! # let ram = formatted()?;
//! # let mut volume = Volume::mount(Direct(&ram), MountOptions::default())?;
//! let minilm = volume.create_collection(b"minilm", &SETTINGS, NOW)?;
//! let inode = volume.create(ROOT, b"file", &FILE, NOW)?.inode;
//! let (good, bad) = (bytes([1.0; 4]), bytes([f32::NAN; 4]));
//! let vector = |n, value| NewVector { inode, n, value, keep: false };
//! let refused = volume.set_vectors(minilm, &[vector(0, &good), vector(1, &bad)], &ROOT_USER, NOW).unwrap_err();
//! assert_eq!((refused.index, refused.error), (Some(1), Error::NotFinite { index: 0 }));
//! assert_eq!(volume.collection(minilm)?.live, 0);
//! let batch = volume.set_vectors(minilm, &[vector(0, &good), vector(1, &good)], &ROOT_USER, NOW).unwrap();
//! assert_eq!((batch.set, volume.collection(minilm)?.live), (2, 2));
//! # Ok(())
//! # }
//! ```
