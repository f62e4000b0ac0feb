/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, with operands for qrnn_dot_mla.h. */
#ifndef QRNN_CHANNELS_MLA_H
#define QRNN_CHANNELS_MLA_H

#ifdef QRNN_USE_COLUMNS
#include "qrnn_dot_mla.h"
#endif
#include "qrnn_channels_plain.h"

#endif
