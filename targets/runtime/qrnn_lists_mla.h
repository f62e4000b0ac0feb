/* SPDX-License-Identifier: Apache-2.0 */
/* Products of lists of tiles (qrnn_lists.h) with operands for qrnn_dot_mla.h; their weights are laid out as for qrnn_lists_plain.h. */
#ifndef QRNN_LISTS_MLA_H
#define QRNN_LISTS_MLA_H

#include "qrnn_dot_mla.h"
#include "qrnn_lists_plain.h"

#endif
