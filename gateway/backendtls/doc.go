// SPDX-License-Identifier: Apache-2.0

// Package backendtls speaks TLS to backends as a BackendTLSPolicy has it: it asks for a name, proves what the Gateway has to prove, and takes an endpoint
// for what it should be by the chain and the names of its certificate, and by nothing else.
//
// What [Settings] say never changes; beside it they remember which endpoints failed their handshakes by them lately. Who keeps connections keeps them apart by the Settings that they were made with, so that none is used for what it was not
// checked for; another configuration has other Settings, but for those that say the same, whose connections stay.
package backendtls
