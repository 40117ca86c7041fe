package server

import (
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func ports() resource[v1.Port, v1.PortList] {
	return resource[v1.Port, v1.PortList]{
		path: "/v1/ports", key: "/{interface}", id: "port", noun: "port", plural: "ports", kind: hnv.KindPort,
		item: portItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.Port { return v1.NewPort(o.(hnv.Port)) },
		list: func(items []v1.Port) v1.PortList { return v1.PortList{Items: items} },
	}
}

type portKey struct {
	Interface string `path:"interface" doc:"Linux interface of the VM." example:"vm1"`
}

func (k portKey) object() (hnv.Object, error) { return hnv.Port{Interface: k.Interface}, nil }

type portPut struct {
	Interface string `path:"interface" doc:"Linux interface of the VM." example:"vm1"`
	Body      v1.Port
}

func (p portPut) object() (hnv.Object, error) { return portKey{p.Interface}.object() }
func (p portPut) body() v1.Port               { return p.Body }

func (s *Server) registerPorts() {
	r := ports()
	r.registerList(s)
	registerGet[portKey](s, r)
	r.registerCreate(s)
	registerPut[portPut](s, r)
	registerDelete[portKey](s, r)
}
