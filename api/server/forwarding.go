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

// ofTenant names an object of a tenant.
type ofTenant struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Its name." example:"hq"`
}

// names reads both.
func (k ofTenant) names() (tenant, name hnv.Name, err error) {
	if tenant, err = hnv.ParseName(k.Tenant); err != nil {
		return tenant, name, invalidf("tenant: %v", err)
	}
	name, err = hnv.ParseName(k.Name)
	return tenant, name, err
}

type attachmentKey struct{ ofTenant }

func (k attachmentKey) object() (hnv.Object, error) {
	t, n, err := k.names()
	return hnv.Attachment{Tenant: t, Name: n}, err
}

type attachmentPut struct {
	ofTenant
	Body v1.Attachment
}

func (p attachmentPut) object() (hnv.Object, error) { return attachmentKey{p.ofTenant}.object() }
func (p attachmentPut) body() v1.Attachment         { return p.Body }

func (s *Server) registerForwarding() {
	r := attachments()
	registerListOfTenant(s, r, func(o hnv.Object) hnv.Name { return o.(hnv.Attachment).Tenant })
	registerGet[attachmentKey](s, r)
	r.registerCreate(s)
	registerPut[attachmentPut](s, r)
	registerDelete[attachmentKey](s, r)
}
