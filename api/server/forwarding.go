package server

import (
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func attachments() resource[v1.Attachment, v1.AttachmentList] {
	return resource[v1.Attachment, v1.AttachmentList]{
		path: "/v1/attachments", key: "/{tenant}/{name}", id: "attachment", noun: "attachment", plural: "attachments", kind: hnv.KindAttachment,
		item: attachmentItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.Attachment { return v1.NewAttachment(o.(hnv.Attachment)) },
		list: func(items []v1.Attachment) v1.AttachmentList { return v1.AttachmentList{Items: items} },
	}
}

type attachmentKey struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the attachment." example:"dc"`
}

func (k attachmentKey) object() (hnv.Object, error) {
	t, n, err := ofTenant(k.Tenant, k.Name)
	return hnv.Attachment{Tenant: t, Name: n}, err
}

// ofTenant reads the name of an object of a tenant.
func ofTenant(tenant, name string) (t, n hnv.Name, err error) {
	if t, err = hnv.ParseName(tenant); err != nil {
		return t, n, invalidf("tenant: %v", err)
	}
	n, err = hnv.ParseName(name)
	return t, n, err
}

type attachmentPut struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the attachment." example:"dc"`
	Body   v1.Attachment
}

func (p attachmentPut) object() (hnv.Object, error) { return attachmentKey{p.Tenant, p.Name}.object() }
func (p attachmentPut) body() v1.Attachment         { return p.Body }

func (s *Server) registerForwarding() {
	r := attachments()
	registerListOfTenant(s, r, func(o hnv.Object) hnv.Name { return o.(hnv.Attachment).Tenant })
	registerGet[attachmentKey](s, r)
	r.registerCreate(s)
	registerPut[attachmentPut](s, r)
	registerDelete[attachmentKey](s, r)
}
