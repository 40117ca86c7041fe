// Package stanza writes what the router at the other end of a site-to-site
// connection needs to exchange routes with a gateway: the configuration of FRR (8.4
// and later), BIRD (2.0.12 and later) and VyOS (1.4 and later).
//
// The functions are pure. They write no secret: where one belongs, a comment says so.
package stanza
