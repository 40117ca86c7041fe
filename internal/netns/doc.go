// Package netns is the one door into another network namespace: it creates,
// names, finds and deletes namespaces the way ip-netns(8) does (a bind mount in
// /run/netns), and runs code inside one on a thread of its own.
//
// Whoever needs a socket in a namespace opens it inside Do and uses it from
// anywhere afterwards: a socket stays in the namespace it was opened in.
//
// Anything may import this package.
package netns
