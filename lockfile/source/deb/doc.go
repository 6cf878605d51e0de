// Package deb chooses packages from Debian archives, for the lock, and says
// where their bytes can be fetched.
//
// # From a signature to a list of packages
//
// A Debian archive publishes one signed file for each suite, InRelease: an
// OpenPGP clear-signed text that names every index by sha256. The indexes,
// called Packages, name every package file by sha256. Quorate verifies that
// chain from the top with the archive keys that are part of it (or those a
// definition names under signed-by), holds the text's dates against the clock
// and against the lock to be replaced, and uses nothing that the chain does
// not cover.
//
// A suite, its updates and its security updates are one view, the [Index]:
//
//	bookworm           dists/bookworm           of the main archive
//	bookworm-updates   dists/bookworm-updates   of the main archive
//	bookworm-security  dists/bookworm-security  of the security archive
//
// # Who chooses
//
// Choosing among alternatives, providers and versions is apt's job, and the
// real apt does it, in a folder that holds nothing but the verified indexes
// and an empty package database. This package does not start it: [Apt] is an
// interface of one method, and what is behind it unpacks apt from the very
// archive and runs it in a sandbox. Every line of apt's answer is looked up
// in the verified index, and [Check] verifies that the whole fits together, so
// a wrong apt can choose badly but cannot bring anything in.
//
// # Sets
//
// A request for a set becomes one question to apt. What a step or a
// maintainer script runs in also holds Debian's Essential packages. The answer
// is divided: what the image ships ("image"), and what is only there to run
// its scripts ("configure"). Each member carries the reason why it is there,
// found by walking the needs from what was asked for, breadth first.
//
// # On an image
//
// A set may be added to an image ([Base]), whose packages apt is shown as
// installed, so that it chooses only what is missing. Nothing of an image is
// changed: an answer with another version of what it has, or one that conflicts
// with it, is a [BaseError]; and [Check]'s rules hold for what is added together
// with what is there. What the image itself lacks of its own needs is its
// maker's affair, and apt is not told of it.
//
// # Source packages
//
// A Sources index stands in InRelease like a Packages index, and names the
// files of each source package: upstream tarballs, what Debian adds, a list of
// them (.dsc). It is brought only when a [SourceRequest] wants a source package,
// from the same signed file that packages are chosen from, and kept and
// remembered as those are. The newest version in the view is chosen, but none of
// an archive that must be asked for (NotAutomatic) and none that is only kept
// since something was built with it (Extra-Source-Only); no dependency has a say.
// What is not wanted of it (signatures of tarballs, unless all files are) is not
// in the answer.
//
// # Mirrors
//
// Location is not identity: [Mirrors] finds where archive bytes come from, and
// [Source.Locations] lists URLs of one package, the snapshot service last. URLs
// may have the scheme file.
//
//	mirrors, err := deb.Mirrors(deb.MirrorConfig{Flag: flag, Env: env, AptRoot: "/", Suite: "bookworm"})
//	src := deb.New(deb.Options{Mirrors: mirrors, Snapshot: deb.SnapshotService, Cache: dir, Apt: sandboxedApt})
//	answer, err := src.Resolve(ctx, deb.Query{Suite: "bookworm", Components: []string{"main"}, …})
package deb
