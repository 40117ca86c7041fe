// Package seal keeps secrets at rest: what is sealed under a key can be read,
// and changed unnoticed, by nobody who has not got the key.
//
// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) with a random nonce; the context,
// such as what is sealed and whose it is, is authenticated with it, so that one
// sealed thing cannot take another's place:
//
//	"hnvseal1" | nonce 24 | ciphertext and tag
//
// Anything may import this package.
package seal
