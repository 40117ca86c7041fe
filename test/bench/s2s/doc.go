// Package s2s measures tunnels to sites and BGP, each beside what an operator would
// use instead, in namespaces that it makes:
//
//	tunnel    TCP from a tenant's VM through overlay, compartment and tunnel to a site,
//	          with so many tunnels in the compartment; beside it two namespaces joined
//	          by the same wireguard-go and nothing else (bare), and hosts behind two
//	          such, which route (routed)
//	failover  of two tunnels the active one is cut without a sign, again and again,
//	          while TCP flows: how long nothing comes
//	tenants   tenants with a tunnel, a BGP peer and routes each, configured all at
//	          once: how long until each compartment has the routes in its kernel and
//	          an answer through its tunnel, and what memory the agents have
//	routes    a neighbour tells of many routes: how long until all are in the
//	          kernel, and with how much memory; beside compartmentd FRR and BIRD
//
// What is compared is measured in turn in each round. Only command benchs2s imports
// this package.
package s2s
