// Package credentialstest makes certificate authorities and what they sign, for
// tests of TLS ends.
//
// Only tests import it.
package credentialstest
