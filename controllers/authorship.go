// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownFields are those of an object's managed fields that say what of its status we wrote. The API server keeps them, so that it is known after a restart and by another
// replica, too. Nobody else's are kept.
func ownFields(all []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var out []metav1.ManagedFieldsEntry
	for _, e := range all {
		if e.Manager == string(fieldOwner) && e.Subresource == "status" {
			out = append(out, e)
		}
	}
	return out
}

// wroteCondition says whether the condition of a type in an object's status is as we wrote it last. Who says something else owns its message, and we do not any more.
func wroteCondition(o metav1.Object, kind string) bool {
	type condition struct {
		Message *struct{} `json:"f:message"`
	}
	for _, e := range ownFields(o.GetManagedFields()) {
		if e.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Status struct {
				Conditions map[string]json.RawMessage `json:"f:conditions"`
			} `json:"f:status"`
		}
		key, _ := json.Marshal(map[string]string{"type": kind}) // a map of strings always can be
		var c condition
		if json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) == nil && json.Unmarshal(fields.Status.Conditions["k:"+string(key)], &c) == nil && c.Message != nil {
			return true
		}
	}
	return false
}
