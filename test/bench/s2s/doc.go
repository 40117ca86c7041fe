// Package s2s measures tunnels to sites and BGP, each beside what an operator would
// use instead, in namespaces that it makes:
//
//	routes    a neighbour tells of many routes: how long until all are in the
//	          kernel, and with how much memory; beside compartmentd FRR and BIRD
//
// What is compared is measured in turn in each round. Only command benchs2s imports
// this package.
package s2s
