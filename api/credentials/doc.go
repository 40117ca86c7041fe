// Package credentials holds the certificate, private key and trusted CAs of one
// end of a TLS connection, read from PEM files and read again when these
// change, so that a certificate is renewed without a restart.
//
// Packages server and client use it, gatewayd also to check its configuration.
package credentials
